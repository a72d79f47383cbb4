"""Render a message as a mail: templates, language, time zone, headers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from myometrics_core.mail import PlainHeadersMail, compose_mail

from .conf import notifications_settings
from .kinds import NotificationKind, registered_kind
from .models import Message
from .unsubscribe_links import unsubscribe_url

TEMPLATES = ("subject.txt", "body.txt", "body.html")

_DEFAULT_SUBJECT = "myometrics_notifications/subject.txt"


def template_names(kind: NotificationKind, part: str) -> list[str]:
    """Return the template names for one of :data:`TEMPLATES`; the first that exists is used."""
    own = f"myometrics_notifications/{kind.name}/{part}"
    return [own, _DEFAULT_SUBJECT] if part == "subject.txt" else [own]


def message_email(message: Message) -> PlainHeadersMail:
    """Return the mail for ``message`` in the recipient's language and time zone.

    The Message-ID is the same at every attempt.
    """
    kind, user = registered_kind(message.kind), message.recipient
    unsubscribe = unsubscribe_url(kind=kind, user=user) if kind.optional else ""
    subject, body, html = (template_names(kind, part) for part in TEMPLATES)

    headers = {}
    if unsubscribe:
        headers["List-Unsubscribe"] = f"<{unsubscribe}>"
        headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"

    def template_context() -> Mapping[str, Any]:
        at = message.context.get("at")
        happened_at = datetime.fromisoformat(at) if isinstance(at, str) else message.created_at
        return {
            **kind.template_context(message.context, user),
            "happened_at": happened_at,
            "kind_title": str(kind.title),
            "site_name": notifications_settings.SITE_NAME,
            "unsubscribe_url": unsubscribe,
        }

    return compose_mail(
        user,
        mail_id=str(message.mail_uuid),
        subject=subject,
        body=body,
        html=html,
        context=template_context,
        language=notifications_settings.RECIPIENT_LANGUAGE(user),
        time_zone=notifications_settings.RECIPIENT_TIME_ZONE(user),
        sender=notifications_settings.FROM_EMAIL or "",
        headers=headers,
    )
