"""Read queries of auth: users for administrators, sessions for their owners."""

from __future__ import annotations

from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce, Greatest
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import NotFound

from myometrics_core.texts import is_storable
from myometrics_core.users import canonical_email, fold_text, parse_user_id

from .conf import auth_settings
from .models import (
    EmailChange,
    Invitation,
    RecoveryCode,
    Role,
    Session,
    TotpDevice,
    User,
    UserQuerySet,
)
from .second_factor_kinds import registered_second_factors

LIKELY_ADMINISTRATOR: Final = Q(role=Role.ADMIN) | Q(is_superuser=True) | Q(is_staff=True)
"""A guess in SQL for ``IS_ADMINISTRATOR``, which may be any function."""
TAKEN: Final = _("An account with this address exists already.")


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


def invitations() -> QuerySet[Invitation]:
    """Return the pending invitations, newest first; expired ones until they are swept."""
    return Invitation.objects.order_by("-created_at", "pk")


def sessions_of(*, user: User) -> QuerySet[Session]:
    """Return the live sessions of ``user``, most recently used first."""
    last_seen_at = Greatest("refreshed_at", Coalesce("last_used_at", "refreshed_at"))
    live = Session.objects.live().filter(user=user)
    return live.order_by(last_seen_at.desc(), "-created_at", "pk")


def second_factors_in_use() -> QuerySet[TotpDevice]:
    """Return the confirmed authenticator apps; others are not required at sign-in."""
    return TotpDevice.objects.filter(confirmed_at__isnull=False)


def email_problems(email: str, *, excluding: User | None = None) -> list[Any]:
    """Return the problems with ``email``, or none: another account than ``excluding`` has it, or
    had it within the time for an undo.
    """
    others = get_user_model().objects.exclude(pk=getattr(excluding, "pk", None))
    taken = others.filter(email_canonical=canonical_email(email)).exists()
    return [TAKEN] if taken or is_reserved(email, excluding=excluding) else []


def is_reserved(email: str, *, excluding: User | None = None) -> bool:
    """Return whether ``email`` is reserved for the undo of a change by another user."""
    changes = EmailChange.objects.reserving(email)
    return changes.exclude(user=getattr(excluding, "pk", None)).exists()


def unverified_users() -> QuerySet[User]:
    """Return the active users who never verified their address, by id."""
    # Not the site's manager: it may filter rows.
    users = UserQuerySet(get_user_model()).filter(is_active=True, verified_at=None)
    return users.order_by("pk")


def must_verify_email(user: User) -> bool:
    """Return whether ``user`` has to verify the address before signing in."""
    is_trusted = user.verified_at is not None or not user.self_registered
    return auth_settings.EMAIL_VERIFICATION == "required" and not is_trusted


def grantable_roles(role: str, *, is_superuser: bool = False) -> list[str]:
    """Return the roles that a user of ``role`` may give: up to their own; a superuser all."""
    roles = list(Role.values)
    if is_superuser:
        return roles
    return roles[roles.index(role) :] if role in roles else []


def has_second_factor(user: User) -> bool:
    """Return whether ``user`` signs in with a second factor."""
    return users_with_second_factor(QuerySet(get_user_model()).filter(pk=user.pk)).exists()


def users_with_second_factor(users: QuerySet[User]) -> QuerySet[User]:
    """Filter ``users`` who sign in with a second factor of any kind."""
    condition = Q(pk__in=second_factors_in_use().values("user_id"))
    for factor in registered_second_factors():
        condition |= Q(pk__in=factor.user_ids())
    return users.filter(condition)


def second_factor_state(*, user: User) -> dict[str, Any]:
    """Return whether ``user`` has and must have a second factor, and the recovery codes left."""
    return {
        "enabled": has_second_factor(user),
        "required": user.role in auth_settings.MFA_REQUIRED_ROLES,
        "recovery_codes_left": RecoveryCode.objects.filter(user=user).count(),
    }
