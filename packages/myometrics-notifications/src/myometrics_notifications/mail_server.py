"""The connection to the mail server, and a pause after its failures."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Any

from django.core.mail import EmailMessage

from myometrics_core.mail import default_mail_backend

from .conf import notifications_settings

__all__ = ["MailConnection", "MailNotTaken", "ServerPause", "mail_timeout", "server_pause"]

logger = logging.getLogger("myometrics.notifications")


class MailNotTaken(Exception):
    """The mail backend reports that it sent nothing, without a reason."""


class MailConnection:
    """The site's mail backend, opened at the first message and reused for the next.

    Every step has a timeout. An error while closing is only logged: the messages are sent.
    """

    def __init__(self) -> None:
        self._backend: Any | None = None

    def __enter__(self) -> MailConnection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, message: EmailMessage) -> None:
        """Send ``message``; returns when the server has accepted it.

        Raises the backend's exceptions. The connection is closed then, so that the next message
        opens a new one.
        """
        try:
            if self._opened().send_messages([message]) == 0:
                raise MailNotTaken
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, if it is open."""
        backend, self._backend = self._backend, None
        try:
            if backend is not None:
                backend.close()
        except Exception as error:
            logger.info("Closing the mail connection failed: %s", type(error).__name__)

    def _opened(self) -> Any:
        if self._backend is None:
            self._backend = _backend_with_timeout()
            self._backend.open()
        return self._backend


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


def mail_timeout() -> float:
    """Return the timeout of each SMTP step in seconds: Django's setting, else ``SMTP_TIMEOUT``.

    Raises Django's exception if the default mailer can't be created.
    """
    own = getattr(default_mail_backend(), "timeout", None)
    return float(notifications_settings.SMTP_TIMEOUT if own is None else own)


def _backend_with_timeout() -> Any:
    backend = default_mail_backend()
    if getattr(backend, "timeout", 0) is None:
        backend.timeout = notifications_settings.SMTP_TIMEOUT
    return backend
