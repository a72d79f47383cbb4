"""What a failed attempt to send a mail means: permanent or not, this mail or the whole server."""

from __future__ import annotations

import smtplib
from dataclasses import dataclass

__all__ = ["SendFailure", "failure_of"]


@dataclass(frozen=True, kw_only=True)
class SendFailure:
    """What an exception of an attempt means.

    ``permanent``: trying again can't help. ``server``: every other message would fail as well.
    ``summary``: for logs and operators, without addresses (servers repeat them in their answers,
    so the exception itself and its traceback don't belong in a log).
    """

    permanent: bool
    server: bool
    summary: str


def failure_of(error: Exception) -> SendFailure:
    """Classify ``error``.

    Only a 5xx response to this recipient or to this message's text is permanent. A 5xx response to
    the greeting, the sign-in or the sender is for the operator to fix, and so temporary.
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
