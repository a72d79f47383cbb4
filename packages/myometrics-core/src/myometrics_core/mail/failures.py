"""Classification of failed mail deliveries: permanent or temporary, one message or whole server."""

from __future__ import annotations

import smtplib
from dataclasses import dataclass

__all__ = ["SendFailure", "classify_failure"]


@dataclass(frozen=True, kw_only=True)
class SendFailure:
    """The classification of an exception.

    ``permanent``: a retry can't succeed. ``server``: every other message would fail as well.
    ``summary``: for logs and operators, without addresses. Servers repeat addresses in their
    responses, so neither the exception nor its traceback may be logged.
    """

    permanent: bool
    server: bool
    summary: str


def classify_failure(error: Exception) -> SendFailure:
    """Classify ``error``.

    Only a 5xx response to this recipient or to the message data is permanent. A 5xx response to the
    greeting, the login or the sender can be fixed by the operator and counts as temporary.
    """
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return _refused_recipient(error)
    if isinstance(error, smtplib.SMTPDataError):
        return _failure(error, permanent=_is_permanent(error.smtp_code), code=error.smtp_code)
    if isinstance(error, smtplib.SMTPResponseException):
        return _failure(error, server=True, code=error.smtp_code)
    if isinstance(error, OSError):
        return _failure(error, server=True)
    return _failure(error, permanent=isinstance(error, ValueError))


def _refused_recipient(error: smtplib.SMTPRecipientsRefused) -> SendFailure:
    codes = [code for code, _ in error.recipients.values()]
    permanent = bool(codes) and all(map(_is_permanent, codes))
    return _failure(error, permanent=permanent, code=codes[0] if codes else None)


def _is_permanent(code: int) -> bool:
    return 500 <= code < 600


def _failure(
    error: Exception, *, permanent: bool = False, server: bool = False, code: int | None = None
) -> SendFailure:
    name = type(error).__name__
    return SendFailure(
        permanent=permanent, server=server, summary=name if code is None else f"{name} {code}"
    )
