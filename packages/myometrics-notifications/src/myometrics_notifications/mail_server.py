"""One conversation with the mail server, and a memory of its having failed."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Any

from django.core.mail import EmailMessage

from myometrics_core.mail_backend import default_mail_backend

from .conf import notifications_settings

__all__ = ["MailConnection", "MailNotTaken", "ServerPause", "mail_timeout", "server_pause"]

logger = logging.getLogger("myometrics.notifications")


class MailNotTaken(Exception):
    """The back end says that it has sent nothing, without saying why."""


class MailConnection:
    """The site's mail backend, opened at the first message and kept for the next.

    Every step has a time-out. An error while closing is logged only: the messages are out.
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
        """Hand ``message`` over; returns only once the server has taken it.

        Raises whatever the backend raises; the connection is closed then, so that the next
        message gets a fresh one.
        """
        try:
            if self._opened().send_messages([message]) == 0:
                raise MailNotTaken
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Say good-bye, if there is anyone to say it to."""
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
    """After a failure of the whole server, single deliveries of this process wait a little.

    Otherwise each of many messages would hold up a worker for a whole time-out. The sweep goes
    on trying, and ends the pause with its first success.
    """

    def __init__(self) -> None:
        self._until = 0.0

    def is_on(self) -> bool:
        """Whether to leave the server alone just now."""
        return time.monotonic() < self._until

    def start(self) -> None:
        """Begin a pause of ``SERVER_PAUSE``."""
        self._until = time.monotonic() + notifications_settings.SERVER_PAUSE.total_seconds()

    def end(self) -> None:
        """The server works."""
        self._until = 0.0


server_pause = ServerPause()


def mail_timeout() -> float:
    """Seconds that the mail server has for each step: the site's own limit, else ours.

    Raises what Django raises where the site has no default mailer that can be made.
    """
    own = getattr(default_mail_backend(), "timeout", None)
    return float(notifications_settings.SMTP_TIMEOUT if own is None else own)


def _backend_with_timeout() -> Any:
    backend = default_mail_backend()
    if getattr(backend, "timeout", 0) is None:
        backend.timeout = notifications_settings.SMTP_TIMEOUT
    return backend
