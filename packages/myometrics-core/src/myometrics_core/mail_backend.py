"""The site's mail back end, on every supported Django (6.1 brought ``MAILERS``)."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.core import mail

__all__ = ["default_mail_backend", "default_mail_backend_path"]

SMTP = "django.core.mail.backends.smtp.EmailBackend"


def default_mail_backend() -> Any:
    """A new back end object of the site's default mailer, not yet opened."""
    mailers = getattr(mail, "mailers", None)
    return mail.get_connection() if mailers is None else mailers.default


def default_mail_backend_path() -> str:
    """The dotted path of its class."""
    mailers = getattr(django_settings, "MAILERS", None)
    if mailers is None:
        return str(django_settings.EMAIL_BACKEND)
    return str(mailers.get("default", {}).get("BACKEND", SMTP))
