"""System check that the site can send mail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core import checks

from ..conf.redaction import redact
from ..conf.site_checks import register_check
from .backend import default_mail_backend

__all__ = ["register_mail_check"]


def register_mail_check(app: str) -> None:
    """Register the check ``<app>.W020``: the default mailer can't be used."""

    def check_mailer(**kwargs: Any) -> Iterator[checks.CheckMessage]:
        try:
            default_mail_backend()
        except Exception as error:
            reason = redact(f"{type(error).__name__}: {error}")
            yield checks.Warning(
                f"{app} sends mail, and the default mailer can't be used: {reason}",
                hint='Set MAILERS["default"], or before Django 6.1 EMAIL_BACKEND.',
                id=f"{app}.W020",
            )

    register_check(check_mailer, app=app)
