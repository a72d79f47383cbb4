"""What auth reads: users for administrators, sessions for their owners."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import NotFound

from myometrics_core.email_addresses import fold_text
from myometrics_core.users import parse_user_id

from .conf import auth_settings
from .models import RecoveryCode, Session, TotpDevice

__all__ = [
    "has_second_factor",
    "second_factor_state",
    "second_factors_in_use",
    "sessions_of",
    "user_get",
    "user_key",
    "users_in",
    "users_matching",
]


def users_matching(*, search: str = "", role: str = "") -> QuerySet[Any]:
    """Users whose first, last or full name or e-mail holds ``search``, of ``role`` if given.

    Upper and lower case are the same. Ordered by id.
    """
    users = get_user_model().objects.order_by("pk")
    if role:
        users = users.filter(role=role)
    return users_in(users, search)


def users_in(users: QuerySet[Any], search: str) -> QuerySet[Any]:
    """Those of ``users`` whose names or e-mail hold ``search``; all when it is blank."""
    if "\x00" in search:  # PostgreSQL refuses it, and no name holds it
        return users.none()
    words = " ".join(fold_text(search).split())
    return users.filter(search_text__contains=words) if words else users


def user_get(*, user_id: str) -> Any:
    """The user whose id, as text, this is; raises ``NotFound`` for any text that is none."""
    user = get_user_model().objects.filter(pk=user_key(user_id)).first()
    if user is None:
        raise NotFound(_("There is no such user."))
    return user


def user_key(user_id: str) -> Any:
    """``user_id`` as a primary key; raises ``NotFound`` for text that can't be one."""
    try:
        return parse_user_id(user_id)
    except ValueError as error:
        raise NotFound(_("There is no such user.")) from error


def sessions_of(*, user: Any) -> QuerySet[Session]:
    """The live sessions of ``user``, the one seen last first."""
    return Session.objects.live().filter(user=user).order_by("-refreshed_at", "-created_at", "pk")


def second_factors_in_use() -> QuerySet[TotpDevice]:
    """The authenticator apps that are confirmed: who has one, signs in with it."""
    return TotpDevice.objects.filter(confirmed_at__isnull=False)


def has_second_factor(user: Any) -> bool:
    """Whether ``user`` signs in with a second factor."""
    return second_factors_in_use().filter(user=user).exists()


def second_factor_state(*, user: Any) -> dict[str, Any]:
    """Whether ``user`` has a second factor, must have one, and the recovery codes left."""
    return {
        "enabled": has_second_factor(user),
        "required": user.role in auth_settings.MFA_REQUIRED_ROLES,
        "recovery_codes_left": RecoveryCode.objects.filter(user=user).count(),
    }
