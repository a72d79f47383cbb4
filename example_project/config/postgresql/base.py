"""Django's back end for PostgreSQL with psycopg's pool, which fails and recovers at once.

The pool alone has requests wait for its ``timeout`` while no connection can be made, and after a
restart of the server for each connection that it still keeps.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base
from psycopg import Connection, OperationalError
from psycopg_pool import ConnectionPool

__all__ = ["DatabaseWrapper"]


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection of the pool, or an error as soon as there can be none.

    Checks connections itself, so ``CONN_HEALTH_CHECKS`` is off.
    """

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

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection[Any]:
        """Take a connection that works from the pool, or make one where there is no pool."""
        connection: Connection[Any] = super().get_new_connection(conn_params)
        pool = self.pool
        if pool is not None and not _works(connection):
            pool.putconn(connection)
            # The server was restarted, so the others are broken, too.
            pool.check()
            connection = super().get_new_connection(conn_params)
        return connection


def fail_waiting_requests(pool: ConnectionPool) -> None:
    """Let no request wait for a pool that could not make a connection and has none."""
    with pool._lock:
        if pool._nconns:
            return
        waiting = list(pool._waiting)
        pool._waiting.clear()
    for request in waiting:
        request.fail(OperationalError("No connection could be made; the log says why."))


def _works(connection: Connection[Any]) -> bool:
    try:
        ConnectionPool.check_connection(connection)
    except OperationalError:
        return False
    return True
