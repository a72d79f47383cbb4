"""Django's PostgreSQL backend, which drops connections that are no longer usable.

With several servers in ``DATABASE_URL``, libpq chooses the one with the required
``target_session_attrs`` when it connects. A persistent connection stays at its server, even after a
switch-over has made that read-only. Such a connection is not usable, and the next one is made to
the server that accepts writes.

With psycopg's pool alone, requests wait for its ``timeout`` while no connection can be made, and
after a server restart once for each pooled connection. Here they fail at once, and the first
request drops the broken connections.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base
from psycopg import Connection, Error, OperationalError
from psycopg_pool import ConnectionPool

__all__ = ["DatabaseWrapper"]

UNWANTED = {
    "read-write": ("in_hot_standby", "default_transaction_read_only"),
    "primary": ("in_hot_standby",),
}
"""``target_session_attrs`` → server parameters that contradict it when they are on."""


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's, but checks pooled connections itself: ``CONN_HEALTH_CHECKS`` is off there."""

    @property
    def pool(self) -> ConnectionPool | None:
        """The pool of this process and alias."""
        options = self.settings_dict["OPTIONS"].get("pool")
        if options:
            # The next request makes the next attempt.
            options.update(reconnect_timeout=0, reconnect_failed=fail_waiting_requests)
        # Django has a pool from 5.1.
        pool: ConnectionPool | None = getattr(super(), "pool", None)
        return pool

    def is_usable(self) -> bool:
        """Return whether the server responds, and accepts writes if the settings require that."""
        return super().is_usable() and not self._has_lost_its_role(self.connection)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection[Any]:
        """Return a working connection: from the pool, or a new one without a pool."""
        pool = self.pool
        # Each attempt replaces one connection of the pool, so the last one gets a new connection.
        # Even that fails if a pooler accepts logins while its server is down.
        for _ in range(pool.max_size + 1 if pool else 1):
            connection: Connection[Any] = super().get_new_connection(conn_params)
            if not pool or (_answers(connection) and not self._has_lost_its_role(connection)):
                return connection
            connection.close()
            pool.putconn(connection)
        raise OperationalError(
            "New connections can't be used: look at the log of the server or pooler."
        )

    def _has_lost_its_role(self, connection: Connection[Any]) -> bool:
        # PostgreSQL 14 and newer reports changes of these with its responses: no query needed.
        wanted = self.settings_dict["OPTIONS"].get("target_session_attrs")
        status = connection.info.parameter_status
        return any(status(name) == "on" for name in UNWANTED.get(wanted, ()))


def fail_waiting_requests(pool: ConnectionPool) -> None:
    """Fail waiting requests of an empty pool that could not make a connection."""
    with pool._lock:
        if pool._nconns:
            return
        waiting = list(pool._waiting)
        pool._waiting.clear()
    for request in waiting:
        request.fail(OperationalError("No connection could be made; the log says why."))


def _answers(connection: Connection[Any]) -> bool:
    try:
        ConnectionPool.check_connection(connection)
    except Error:
        return False
    return True
