"""The connection to the mail server, with a timeout for every step."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any

from django.core.mail import EmailMessage

from ..conf.core_settings import core_settings
from .backend import default_mail_backend

logger = logging.getLogger("myometrics.core.mail")


class MailNotSent(Exception):
    """The mail backend reports that it sent nothing, without a reason."""


class MailConnection:
    """The site's mail backend as a context manager; opened at the first mail, reused for the next.

    An error while closing is only logged: the mails are sent.
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

    def send(self, mail: EmailMessage) -> None:
        """Send ``mail``; returns when the server has accepted it.

        Raises the backend's exceptions (see :func:`myometrics_core.mail.classify_failure`). The
        connection is closed then, so that the next mail opens a new one.
        """
        try:
            if self._backend is None:
                self._backend = default_mail_backend()
                if getattr(self._backend, "timeout", 0) is None:
                    self._backend.timeout = core_settings.SMTP_TIMEOUT
                self._backend.open()
            if self._backend.send_messages([mail]) == 0:
                raise MailNotSent
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


def mail_timeout() -> float:
    """Return the timeout of each SMTP step in seconds: Django's setting, else ``SMTP_TIMEOUT``.

    Raises Django's exception if the default mailer can't be created.
    """
    own = getattr(default_mail_backend(), "timeout", None)
    return float(core_settings.SMTP_TIMEOUT if own is None else own)
