"""Uvicorn's worker for gunicorn with a deadline for the arrival of a request."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn_worker import UvicornWorker

CLIENT_TIMEOUT = int(os.environ.get("WEB_CLIENT_TIMEOUT") or 15)
"""Seconds from the first byte of a request to its last."""


class DeadlineProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """Closes a connection whose request is late; uvicorn itself would wait for ever."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Receive a part of a request; the last part cancels the deadline."""
        if self._deadline is None:
            self._start()
        super().data_received(data)
        cycle = self.cycle
        if cycle is not None and not cycle.more_body and not cycle.response_complete:
            self._cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def _start(self) -> None:
        self._deadline = self.loop.call_later(CLIENT_TIMEOUT, self.transport.close)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class DeadlineUvicornWorker(UvicornWorker):  # type: ignore[misc]
    """The worker class for ASGI."""

    CONFIG_KWARGS = {**UvicornWorker.CONFIG_KWARGS, "http": DeadlineProtocol}
