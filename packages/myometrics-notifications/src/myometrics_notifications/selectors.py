"""Queries: a user's switches, and the recipients of a kind."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models import Exists, OuterRef, Q, QuerySet

from .kinds import NotificationKind, registered_kinds
from .models import NotificationSettings, column_defaults, has_column


def settings_of(user: AbstractBaseUser) -> NotificationSettings:
    """Return the user's settings; before the first use an unsaved row with the defaults."""
    stored = NotificationSettings.objects.filter(user_id=user.pk).first()
    return stored or NotificationSettings(user_id=user.pk, **column_defaults())


def switches(settings: NotificationSettings) -> dict[str, bool]:
    """Return name → on, as in the API: the main switch, then each optional kind's own.

    Specification: "GET /users/me/notifications/".
    """
    shown = {"email_notifications": settings.email_notifications}
    for kind in registered_kinds():
        if kind.optional:
            shown[kind.name] = settings.switch(kind)
    return shown


def message_is_wanted(*, kind: NotificationKind, user: AbstractBaseUser) -> bool:
    """Return whether ``user``'s switches allow mails of ``kind`` now."""
    if not kind.optional:
        return True
    settings = settings_of(user)
    return settings.email_notifications and settings.switch(kind)


def users_wanting(kind: NotificationKind) -> QuerySet[Any]:
    """Return the users whose switches allow ``kind``."""
    users = get_user_model()._base_manager.order_by("pk")
    return users.filter(_wants(kind)) if kind.optional else users


def _wants(kind: NotificationKind) -> Exists | Any:
    own: QuerySet[NotificationSettings] = NotificationSettings.objects.filter(
        user_id=OuterRef("pk")
    )
    switch = kind.name if has_column(kind) else f"host_switches__{kind.name}"
    if kind.default_on:
        return ~Exists(own.filter(Q(email_notifications=False) | Q(**{switch: False})))
    return Exists(own.filter(**{"email_notifications": True, switch: True}))
