"""Gunicorn's ``gthread`` with a deadline for the arrival of a request."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

CLIENT_TIMEOUT = int(os.environ.get("WEB_CLIENT_TIMEOUT") or 15)
"""Seconds from the first byte of a request to its last."""


class DeadlineThreadWorker(ThreadWorker):  # type: ignore[misc]
    """A thread serves one client at a time: without a deadline, a slow client could block it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadlines: dict[Any, float] = {}

    def handle(self, conn: Any) -> Any:
        self._deadlines[conn] = time.monotonic() + CLIENT_TIMEOUT
        try:
            return super().handle(conn)
        finally:
            del self._deadlines[conn]

    def notify(self) -> None:
        """Close late connections; called by the main thread at least once a second."""
        super().notify()
        now = time.monotonic()
        for conn, deadline in list(self._deadlines.items()):
            if deadline <= now:
                # Receiving only: the response to a complete request is still sent. Not
                # `conn.sock.shutdown`, which under TLS would continue in plain text.
                with suppress(OSError):
                    socket.socket.shutdown(conn.sock, socket.SHUT_RD)
