"""Compose mails from templates, with the headers that mails of a program need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from email.headerregistry import HeaderRegistry, UniqueUnstructuredHeader
from email.policy import EmailPolicy, default
from email.utils import parseaddr
from typing import Any, Final
from zoneinfo import ZoneInfo

import django
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.utils import timezone, translation

from ..conf.core_settings import core_settings

MAX_LINE_LENGTH: Final = 998
"""RFC 5322, section 2.1.1."""
MAX_SUBJECT_LENGTH: Final = 200
UNFOLDED_HEADERS: Final = ("List-Unsubscribe",)


def mail_address(user: AbstractBaseUser) -> str:
    """Return the user's e-mail address; ``""`` if there is none."""
    return str(getattr(user, type(user).get_email_field_name(), "") or "")


def compose_mail(
    user: AbstractBaseUser,
    *,
    mail_id: str,
    subject: str | Sequence[str],
    body: str | Sequence[str],
    html: str | Sequence[str] = (),
    context: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
    language: str,
    time_zone: str = "",
    sender: str = "",
    headers: Mapping[str, str] | None = None,
) -> PlainHeadersMail:
    """Return a mail to ``user``, rendered in their language.

    - ``mail_id``: unique, and the same at every attempt; becomes the Message-ID.
    - ``subject``, ``body``, ``html``: names of templates, of which the first that exists is used.
      The templates ``myometrics_core/mail/layout.txt`` and ``layout.html`` can be their base.
    - ``context``: its values, or a function that returns them, which is called in the user's
      language. ``language`` and ``frontend_url`` are added.
    - ``language``, ``time_zone``: code and name; without ``time_zone`` the site's.
    - ``sender``: without it Django's ``DEFAULT_FROM_EMAIL``. Its domain is that of the Message-ID.
    - ``headers``: further headers.
    """
    sender = sender or settings.DEFAULT_FROM_EMAIL
    zone = ZoneInfo(time_zone) if time_zone else None
    with translation.override(language), timezone.override(zone):
        values = {
            **(context() if callable(context) else context),
            "language": language,
            "frontend_url": core_settings.FRONTEND_URL,
        }
        mail = PlainHeadersMail(
            subject=" ".join(render_to_string(subject, values).split())[:MAX_SUBJECT_LENGTH],
            body=render_to_string(body, values).strip() + "\n",
            from_email=sender,
            to=[mail_address(user)],
            headers={**_program_headers(mail_id, sender), **(headers or {})},
        )
        if html:
            mail.attach_alternative(render_to_string(html, values), "text/html")
    return mail


def _program_headers(mail_id: str, sender: str) -> dict[str, str]:
    domain = parseaddr(sender)[1].rpartition("@")[2]
    if not domain.isascii():  # would become an RFC 2047 encoded word, which is no Message-ID
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            domain = ""
    message_id = f"<{mail_id}@{domain or 'localhost'}>"
    return {"Message-ID": message_id, "Auto-Submitted": "auto-generated"}


class PlainHeadersMail(EmailMultiAlternatives):
    """A mail whose ``List-Unsubscribe`` stays one line with a plain ``<https://…>``.

    Mail clients expect that format. Python folds a header longer than 78 characters, and since
    Django 6 text that can't be folded becomes RFC 2047 encoded words, which clients don't parse as
    a URL.
    """

    def message(self, **options: Any) -> Any:
        """Return the mail as a Python message; accepts the base class's arguments."""
        if django.VERSION < (6, 0):
            message = super().message(**options)
            message.policy = message.policy.clone(max_line_length=MAX_LINE_LENGTH)
            return message
        policy: EmailPolicy = options.pop("policy", default)
        return super().message(policy=policy.clone(header_factory=_headers()), **options)


class _UnfoldedHeader(UniqueUnstructuredHeader):
    def fold(self, *, policy: Any) -> str:
        line = f"{self.name}: {self}{policy.linesep}"  # type: ignore[attr-defined]
        return line if line.isascii() else super().fold(policy=policy)  # type: ignore[misc]


def _headers() -> HeaderRegistry:
    registry = HeaderRegistry()
    for name in UNFOLDED_HEADERS:
        registry.map_to_type(name, _UnfoldedHeader)  # type: ignore[arg-type]
    return registry
