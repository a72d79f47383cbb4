"""A pause after failures of the mail server."""

from __future__ import annotations

import time

from .conf import notifications_settings

__all__ = ["ServerPause", "server_pause"]


class ServerPause:
    """After a failure of the whole server, single deliveries of this process pause.

    Otherwise each message would block a worker until the timeout. Sweeps continue, and their first
    success ends the pause.
    """

    def __init__(self) -> None:
        self._until = 0.0

    def is_on(self) -> bool:
        """Whether the pause is active."""
        return time.monotonic() < self._until

    def start(self) -> None:
        """Start a pause of ``SERVER_PAUSE``."""
        self._until = time.monotonic() + notifications_settings.SERVER_PAUSE.total_seconds()

    def end(self) -> None:
        """End the pause."""
        self._until = 0.0


server_pause = ServerPause()
