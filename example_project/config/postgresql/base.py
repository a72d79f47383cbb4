"""Connections to several servers, of which one accepts writes (``target_session_attrs``).

libpq chooses that server when it connects. A connection that is kept stays at its server, though
that may refuse writes since: it was set to read only for a switch-over. Django asks each kept
connection once a request whether it is usable; such a one is not, and the next is made to the
server that accepts writes.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base

UNWANTED = {
    "read-write": ("in_hot_standby", "default_transaction_read_only"),
    "primary": ("in_hot_standby",),
}
"""``target_session_attrs`` → parameters of the server that contradict it when they are on."""


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's, but treats a connection without the wanted ``target_session_attrs`` as lost."""

    def is_usable(self) -> bool:
        """Whether the server answers, and accepts writes if the settings want that."""
        return super().is_usable() and not self._has_lost_its_role(self.connection)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """A connection that is new, or that the pool found to be alive."""
        connection = super().get_new_connection(conn_params)
        pool = getattr(self, "pool", None)
        # Each turn ends one connection of the pool; a new one has the role, or raises.
        while pool and self._has_lost_its_role(connection):
            connection.close()
            pool.putconn(connection)
            connection = super().get_new_connection(conn_params)
        return connection

    def _has_lost_its_role(self, connection: Any) -> bool:
        # The server (from PostgreSQL 14) sends these with its answers when they change: no query.
        wanted = self.settings_dict["OPTIONS"].get("target_session_attrs")
        status = connection.info.parameter_status
        return any(status(name) == "on" for name in UNWANTED.get(wanted, ()))
