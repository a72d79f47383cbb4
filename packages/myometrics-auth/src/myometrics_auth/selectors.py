"""Read queries of auth: users for administrators, sessions for their owners."""

from __future__ import annotations

from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import NotFound

from myometrics_core.texts import is_storable
from myometrics_core.users import fold_text, parse_user_id

from .conf import auth_settings
from .models import RecoveryCode, Role, Session, TotpDevice, User

__all__ = [
    "LIKELY_ADMINISTRATOR",
    "has_second_factor",
    "second_factor_state",
    "second_factors_in_use",
    "sessions_of",
    "staff_below_administrator",
    "user_get",
    "user_key",
    "users_in",
    "users_matching",
]

LIKELY_ADMINISTRATOR: Final = Q(role=Role.ADMIN) | Q(is_superuser=True) | Q(is_staff=True)
"""A guess in SQL for ``IS_ADMINISTRATOR``, which may be any function."""


def users_matching(*, search: str = "", role: str = "") -> QuerySet[User]:
    """Return users by id, optionally of a ``role`` or with ``search`` in name or e-mail."""
    users = get_user_model().objects.order_by("pk")
    return users_in(users.filter(role=role) if role else users, search)


def users_in(users: QuerySet[User], search: str) -> QuerySet[User]:
    """Filter ``users`` whose names or e-mail contain ``search``; return all if it is blank."""
    if not is_storable(search):  # PostgreSQL rejects NUL, and no name contains it
        return users.none()
    words = " ".join(fold_text(search).split())
    return users.filter(search_text__contains=words) if words else users


def user_get(*, user_id: str) -> User:
    """Return the user with this id, given as text; raise ``NotFound``, also for invalid ids."""
    user = get_user_model().objects.filter(pk=user_key(user_id)).first()
    if user is None:
        raise NotFound(_("There is no such user."))
    return user


def user_key(user_id: str) -> Any:
    """Convert ``user_id`` to a primary key; raise ``NotFound`` for invalid text."""
    try:
        return parse_user_id(user_id)
    except ValueError as error:
        raise NotFound(_("There is no such user.")) from error


def staff_below_administrator(users: QuerySet[User]) -> QuerySet[User]:
    """Filter staff and superusers among ``users`` whose role is below administrator."""
    return users.filter(Q(is_staff=True) | Q(is_superuser=True)).exclude(role=Role.ADMIN)


def sessions_of(*, user: User) -> QuerySet[Session]:
    """Return the live sessions of ``user``, most recently used first."""
    return Session.objects.live().filter(user=user).order_by("-refreshed_at", "-created_at", "pk")


def second_factors_in_use() -> QuerySet[TotpDevice]:
    """Return the confirmed authenticator apps; only these are required at sign-in."""
    return TotpDevice.objects.filter(confirmed_at__isnull=False)


def has_second_factor(user: User) -> bool:
    """Return whether ``user`` signs in with a second factor."""
    return second_factors_in_use().filter(user=user).exists()


def second_factor_state(*, user: User) -> dict[str, Any]:
    """Return whether ``user`` has and must have a second factor, and the recovery codes left."""
    return {
        "enabled": has_second_factor(user),
        "required": user.role in auth_settings.MFA_REQUIRED_ROLES,
        "recovery_codes_left": RecoveryCode.objects.filter(user=user).count(),
    }
