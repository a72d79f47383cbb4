"""A real SMTP server whose behaviour a test can change while it runs."""

from __future__ import annotations

import asyncio
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from myometrics_testing.services import free_port
from myometrics_testing.waiting import PATIENCE

OK = "250 OK"


class SmtpServer:
    """Listens on a port of 127.0.0.1 from ``start`` to ``stop``; keeps accepted mails, parsed and
    raw.

    ``at_recipient`` and ``at_data`` are its responses to RCPT and DATA: a line of text, ``"hang"``
    (never responds) or ``"drop"`` (closes the connection). They can be set at any time; ``at_data``
    may be a function of the envelope.
    """

    def __init__(self) -> None:
        self.accepted: list[EmailMessage] = []
        self.received: list[bytes] = []
        self.at_recipient: Any = OK
        self.at_data: Any = OK
        self.connections = 0
        self.open_connections = 0
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None

    def start(self) -> SmtpServer:
        """Listen, if not listening: always on the same port."""
        if not self._thread.is_alive():
            self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(PATIENCE)
        return self

    def stop(self) -> None:
        """Stop listening; open connections stay open."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(PATIENCE)

    async def _listen(self) -> None:
        if self._server is not None:
            return
        self._server = await self._loop.create_server(self._protocol, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._server = None

    def _protocol(self) -> SMTP:
        self.connections += 1
        self.open_connections += 1
        return _Conversation(self, hostname="test", loop=self._loop)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self._behave(server, self.at_recipient)
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        wanted = self.at_data(envelope) if callable(self.at_data) else self.at_data
        answer = await self._behave(server, wanted)
        if answer.startswith("250"):
            content = bytes(envelope.original_content or b"")
            self.received.append(content)
            self.accepted.append(message_from_bytes(content, policy=policy.default))
        return answer

    async def _behave(self, server: SMTP, answer: str) -> str:
        if answer == "hang":
            await asyncio.sleep(600)
        if answer == "drop":
            transport: Any = server.transport
            transport.abort()
            await asyncio.sleep(600)
        return answer


class _Conversation(SMTP):
    """The server's side of a connection. A closed one accepts no more mails."""

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.event_handler.open_connections -= 1
