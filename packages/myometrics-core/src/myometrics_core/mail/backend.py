"""The site's mail backend on every supported Django version (6.1 introduced ``MAILERS``)."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.core import mail

SMTP = "django.core.mail.backends.smtp.EmailBackend"


def default_mail_backend() -> Any:
    """Return a new, unopened backend of the site's default mailer.

    Raises Django's exception if there is no default mailer or it can't be created.
    """
    mailers = getattr(mail, "mailers", None)
    return mail.get_connection() if mailers is None else mailers.default


def default_mail_backend_path() -> str | None:
    """Return the dotted path of its class, or ``None`` if the site has no default mailer."""
    # Django before 6.1 ignores MAILERS.
    if not hasattr(mail, "mailers") or not hasattr(django_settings, "MAILERS"):
        return str(django_settings.EMAIL_BACKEND)
    mailers: Any = getattr(django_settings, "MAILERS", None) or {}
    mailer = mailers.get("default")
    return None if mailer is None else str(mailer.get("BACKEND", SMTP))
