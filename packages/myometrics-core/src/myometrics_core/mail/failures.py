"""Classification of failed mail deliveries: permanent or temporary, one message or whole server."""

from __future__ import annotations

import smtplib

from ..jobs.kinds import JobFailed


def classify_failure(error: Exception) -> JobFailed:
    """Return the exception that a job raises after ``error`` prevented the delivery of a mail.

    Its summary contains no address. Servers repeat addresses in their responses, so neither the
    error nor its traceback may be logged: ``raise classify_failure(error) from None``.

    Only a 5xx response to this recipient or to the message data is permanent. A 5xx response to the
    greeting, the login or the sender can be fixed by the operator and counts as temporary.
    """
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
        permanent = bool(codes) and all(map(_is_permanent, codes))
        return _failure(error, permanent=permanent, code=codes[0] if codes else None)
    if isinstance(error, smtplib.SMTPDataError):
        return _failure(error, permanent=_is_permanent(error.smtp_code), code=error.smtp_code)
    if isinstance(error, smtplib.SMTPResponseException):
        return _failure(error, service_down=True, code=error.smtp_code)
    if isinstance(error, OSError):
        return _failure(error, service_down=True)
    return _failure(error, permanent=isinstance(error, ValueError))


def _is_permanent(code: int) -> bool:
    return 500 <= code < 600


def _failure(
    error: Exception,
    *,
    permanent: bool = False,
    service_down: bool = False,
    code: int | None = None,
) -> JobFailed:
    name = type(error).__name__
    summary = name if code is None else f"{name} {code}"
    return JobFailed(summary, permanent=permanent, service_down=service_down)
