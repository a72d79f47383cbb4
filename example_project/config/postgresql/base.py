"""Django's back end for PostgreSQL, which keeps no connection that can't be used any more.

With several servers in ``DATABASE_URL``, libpq chooses the one with the wanted
``target_session_attrs`` when it connects. A connection that is kept stays at its server, though
that may refuse writes since: it was set to read only for a switch-over. Such a connection is not
usable, and the next one is made to the server that accepts writes.

psycopg's pool has requests wait for its ``timeout`` after a restart of the server, once for each
connection that it still keeps. Here they are all dropped by the first request.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base
from psycopg import Connection, OperationalError

__all__ = ["DatabaseWrapper"]

UNWANTED = {
    "read-write": ("in_hot_standby", "default_transaction_read_only"),
    "primary": ("in_hot_standby",),
}
"""``target_session_attrs`` → parameters of the server that contradict it when they are on."""


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's, but checks connections of a pool itself: ``CONN_HEALTH_CHECKS`` is off there."""

    def is_usable(self) -> bool:
        """Whether the server answers, and accepts writes if the settings want that."""
        return super().is_usable() and not self._has_lost_its_role(self.connection)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection[Any]:
        """A connection that is new, or one of the pool that works."""
        connection: Connection[Any] = super().get_new_connection(conn_params)
        pool = getattr(self, "pool", None)  # Django has one from 5.1.
        # Each turn ends one connection of the pool; a new one works, or can't be made.
        while pool and not self._works(pool, connection):
            connection.close()
            pool.putconn(connection)
            connection = super().get_new_connection(conn_params)
        return connection

    def _works(self, pool: Any, connection: Connection[Any]) -> bool:
        try:
            pool.check_connection(connection)
        except OperationalError:
            return False
        return not self._has_lost_its_role(connection)

    def _has_lost_its_role(self, connection: Connection[Any]) -> bool:
        # The server (from PostgreSQL 14) sends these with its answers when they change: no query.
        wanted = self.settings_dict["OPTIONS"].get("target_session_attrs")
        status = connection.info.parameter_status
        return any(status(name) == "on" for name in UNWANTED.get(wanted, ()))
