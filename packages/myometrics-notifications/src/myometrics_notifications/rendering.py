"""Render a message as a mail: templates, language, time zone, headers."""

from __future__ import annotations

from datetime import datetime
from email.utils import parseaddr
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import timezone, translation

from myometrics_core.conf import core_settings
from myometrics_core.mail import PlainHeadersMail

from .conf import notifications_settings
from .kinds import NotificationKind, registered_kind
from .models import Message
from .unsubscribing import unsubscribe_url

__all__ = ["TEMPLATES", "mail_address", "message_email", "template_names"]

TEMPLATES = ("subject.txt", "body.txt", "body.html")

_ANY_SUBJECT = "myometrics_notifications/subject.txt"
_SUBJECT_LENGTH = 200


def mail_address(user: Any) -> str:
    """Return the user's e-mail address; ``""`` if there is none."""
    return str(getattr(user, type(user).get_email_field_name(), "") or "")


def template_names(kind: NotificationKind, part: str) -> list[str]:
    """Return the template names for one of :data:`TEMPLATES`; the first that exists is used."""
    own = f"myometrics_notifications/{kind.name}/{part}"
    return [own, _ANY_SUBJECT] if part == "subject.txt" else [own]


def message_email(message: Message) -> PlainHeadersMail:
    """Return the mail for ``message`` in the recipient's language and time zone.

    The Message-ID is the same at every attempt.
    """
    kind, user = registered_kind(message.kind), message.recipient
    language = notifications_settings.RECIPIENT_LANGUAGE(user)
    zone = ZoneInfo(notifications_settings.RECIPIENT_TIME_ZONE(user))
    with translation.override(language), timezone.override(zone):
        return _compose(message, kind, user)


def _compose(message: Message, kind: NotificationKind, user: Any) -> PlainHeadersMail:
    unsubscribe = unsubscribe_url(kind=kind, user=user) if kind.optional else ""
    context = _template_context(message, kind, unsubscribe)
    parts = {part: render_to_string(template_names(kind, part), context) for part in TEMPLATES}
    email = PlainHeadersMail(
        subject=" ".join(parts["subject.txt"].split())[:_SUBJECT_LENGTH],
        body=parts["body.txt"].strip() + "\n",
        from_email=_sender(),
        to=[mail_address(user)],
        headers=_headers(message, unsubscribe),
    )
    email.attach_alternative(parts["body.html"], "text/html")
    return email


def _template_context(message: Message, kind: NotificationKind, unsubscribe: str) -> dict[str, Any]:
    return {
        **kind.template_context(message.context, message.recipient),
        "happened_at": _moment(message),
        "kind_title": str(kind.title),
        "site_name": notifications_settings.SITE_NAME,
        "frontend_url": core_settings.FRONTEND_URL,
        "unsubscribe_url": unsubscribe,
        "language": translation.get_language(),
    }


def _moment(message: Message) -> datetime:
    at = message.context.get("at")
    return datetime.fromisoformat(at) if isinstance(at, str) else message.created_at


def _headers(message: Message, unsubscribe: str) -> dict[str, str]:
    headers = {
        "Message-ID": f"<{message.mail_uuid}@{_sender_domain()}>",
        "Auto-Submitted": "auto-generated",
    }
    if unsubscribe:
        headers["List-Unsubscribe"] = f"<{unsubscribe}>"
        headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return headers


def _sender() -> str:
    return notifications_settings.FROM_EMAIL or settings.DEFAULT_FROM_EMAIL


def _sender_domain() -> str:
    return parseaddr(_sender())[1].rpartition("@")[2] or "localhost"
