"""System checks that the site can send mail, and that its links lead to the site."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks

from ..conf.core_settings import core_settings
from ..conf.redaction import redact
from ..conf.site_checks import register_check
from .backend import default_mail_backend

LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


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


def register_link_check(app: str, number: str) -> None:
    """Register the check ``<app>.<number>``: links in mails point to localhost, not to the site."""

    def check_api_url(**kwargs: Any) -> Iterator[checks.CheckMessage]:
        host = urlsplit(core_settings.API_URL).hostname
        if host in LOCAL_HOSTS and not settings.DEBUG:
            yield checks.Warning(
                f"Links in mails lead to {host}.",
                hint="Set MYOMETRICS['API_URL'] to the public address of the API.",
                id=f"{app}.{number}",
            )

    register_check(check_api_url, app=app)
