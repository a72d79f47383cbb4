"""Django's PostgreSQL backend, which drops connections that are no longer usable.

With several servers in ``DATABASE_URL``, libpq chooses the one with the required
``target_session_attrs`` when it connects. A persistent connection stays at its server, even after a
switch-over has made that read-only. Such a connection is not usable, and the next one is made to
the server that accepts writes.

A connection is checked before a request uses it, without a query if nothing has arrived on it: a
server or network that ends a connection leaves something to read.

With psycopg's pool alone, requests wait for its ``timeout`` while no connection can be made, and
after a server restart once for each pooled connection. Here they fail at once as soon as the pool
is empty, and the first request drops the broken connections.
"""

from __future__ import annotations

import selectors
import time
from typing import Any

from django.db.backends.postgresql import base
from psycopg import Connection, Error, OperationalError
from psycopg_pool import ConnectionPool

ATTEMPT_SECONDS = 5
"""After this time a request tries no further connection of the pool."""
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
            options["reconnect_timeout"] = 0
        # Django has a pool from 5.1.
        pool: ConnectionPool | None = getattr(super(), "pool", None)
        return pool

    def is_usable(self) -> bool:
        """Return whether the server responds, and accepts writes if the settings require that."""
        if not self.errors_occurred and self._needs_no_query(self.connection):
            return True
        return super().is_usable() and not self._has_lost_its_role(self.connection)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection[Any]:
        """Return a working connection: from the pool, or a new one without a pool."""
        pool = self.pool
        deadline = time.monotonic() + ATTEMPT_SECONDS
        # Each attempt replaces one connection of the pool, so the last one gets a new connection.
        # Even that fails if a pooler accepts logins while its server is down.
        for _ in range(pool.max_size + 1 if pool else 1):
            if pool and pool.get_stats()["pool_size"] == 0:
                # Raises at once, with the reason, if no connection can be made.
                self.Database.connect(**conn_params).close()
            connection: Connection[Any] = super().get_new_connection(conn_params)
            if not pool or self._needs_no_query(connection) or self._answers(connection):
                return connection
            connection.close()
            pool.putconn(connection)
            if time.monotonic() > deadline:
                # The server has vanished: each connection would wait for TCP's time-out.
                break
        raise OperationalError(
            "New connections can't be used: look at the log of the server or pooler."
        )

    def _needs_no_query(self, connection: Connection[Any]) -> bool:
        return not self._unwanted_parameters() and not _has_ended_or_received(connection)

    def _answers(self, connection: Connection[Any]) -> bool:
        try:
            ConnectionPool.check_connection(connection)
        except Error:
            return False
        return not self._has_lost_its_role(connection)

    def _has_lost_its_role(self, connection: Connection[Any]) -> bool:
        # PostgreSQL 14 and newer reports changes of these with its responses.
        status = connection.info.parameter_status
        return any(status(name) == "on" for name in self._unwanted_parameters())

    def _unwanted_parameters(self) -> tuple[str, ...]:
        return UNWANTED.get(self.settings_dict["OPTIONS"].get("target_session_attrs"), ())


def _has_ended_or_received(connection: Connection[Any]) -> bool:
    """Return whether an idle connection has ended, or has something to read, such as its end."""
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            return bool(selector.select(timeout=0))
    except Error:
        return True
