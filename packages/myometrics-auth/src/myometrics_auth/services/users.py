"""Accounts: made by registration, changed by their owner or an administrator, erased.

Specification: "POST /auth/register/", "PUT /auth/user/" and "User Management Endpoints".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.db import IntegrityError
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import NotFound, ValidationError

from myometrics_auth.activities import publish_user_change
from myometrics_auth.errors import invalid_token_error
from myometrics_auth.models import Role
from myometrics_core.email_addresses import canonical_email
from myometrics_core.errors import Conflict
from myometrics_core.personal_data import erase_person
from myometrics_core.transactions import atomic_write

from .passwords import password_problems

__all__ = [
    "email_problems",
    "user_delete",
    "user_erase_self",
    "user_register",
    "user_update",
    "user_update_profile",
]

TAKEN = _("An account with this address exists already.")
OPEN_FIELDS = frozenset({"role", "is_active", "is_staff", "is_superuser"})
"""Fields whose values may be told to other packages; of all others only that they changed."""


def email_problems(email: str, *, but: Any = None) -> list[Any]:
    """Why no account can have the address ``email``, other than ``but``; empty when one can."""
    key = None if but is None else but.pk
    others = get_user_model().objects.exclude(pk=key)
    taken = others.filter(email_canonical=canonical_email(email)).exists()
    return [TAKEN] if taken else []


def user_register(*, email: str, password: str, **profile: Any) -> Any:
    """A new account of the default role.

    ``email`` is as :func:`~myometrics_auth.email_addresses.clean_email` gives it, ``profile``
    holds values of the user model's ``PROFILE_FIELDS``. Raises ``ValidationError`` on ``email``
    when it is taken, and on ``password``.
    """
    user = get_user_model()(email=email, self_registered=True, **profile)
    problems = {"email": email_problems(email), "password": password_problems(password, user)}
    if any(problems.values()):
        raise ValidationError({field: found for field, found in problems.items() if found})
    user.set_password(password)
    try:
        with atomic_write():
            user.save()
    except IntegrityError as error:
        raise ValidationError({"email": [TAKEN]}) from error
    return user


def user_update_profile(*, user: Any, changes: Mapping[str, Any]) -> Any:
    """Change what a person may change about themselves; the user as it is then."""
    with atomic_write():
        current = _locked(user.pk)
        if current is None:
            raise invalid_token_error()
        _apply(current, changes)
    return current


def user_update(*, actor: Any, user_id: Any, changes: Mapping[str, Any], request: Any) -> Any:
    """Change a user as an administrator; the user as it is then.

    A deactivated user's sessions end. Raises ``NotFound``, and ``Conflict`` where no active
    administrator would be left.
    """
    with atomic_write():
        administrators = _locked_administrators() if {"role", "is_active"} & set(changes) else set()
        user = _locked(user_id)
        if user is None:
            raise NotFound(_("There is no such user."))
        if canonical_email(changes.get("email", user.email)) != user.email_canonical:
            # The administrator answers for the new address; nobody has read its mail yet.
            changes = {**changes, "self_registered": False, "verified_at": None}
        changed = _apply(user, changes)
        if not _administers(user):
            _require_another(administrators, user.pk)
        if not user.is_active:
            user.sessions.end()
        if changed:
            publish_user_change(
                "user_updated",
                actor=actor,
                user_id=user.pk,
                details={"changed": changed},
                request=request,
            )
    return user


def user_delete(*, actor: Any, user_id: Any, request: Any) -> None:
    """Erase a user and all that the installed packages hold about them, or nothing.

    Raises ``NotFound``, and ``Conflict`` for the last active administrator.
    """
    with atomic_write():
        key = _erase(user_id)
        # Who erases themselves is no longer there to be named, nor is their address.
        by_self = key == actor.pk
        publish_user_change(
            "user_deleted",
            actor=None if by_self else actor,
            user_id=key,
            details={"by": "self" if by_self else "administrator"},
            request=None if by_self else request,
        )


def user_erase_self(*, user: Any) -> None:
    """Erase one's own account. Raises as :func:`user_delete`, but 401 where it is gone."""
    try:
        user_delete(actor=user, user_id=user.pk, request=None)
    except NotFound as error:
        raise invalid_token_error() from error


def _erase(user_id: Any) -> Any:
    administrators = _locked_administrators()
    user = _locked(user_id, to_delete=True)
    if user is None:
        raise NotFound(_("There is no such user."))
    _require_another(administrators, user.pk)
    erase_person(user)
    return user_id


def _locked(user_id: Any, *, to_delete: bool = False) -> Any | None:
    # Only who deletes a person needs to keep out those who write rows that refer to them.
    people = get_user_model().objects.select_for_update(no_key=not to_delete)
    return people.filter(pk=user_id).first()


def _locked_administrators() -> set[Any]:
    # All of them, in one order: two that demote each other must queue, and not dead-lock. Rows
    # that refer to them are written meanwhile: whoever waited here while holding the person who
    # is about to be deleted would dead-lock, too.
    active = get_user_model().objects.filter(role=Role.ADMIN, is_active=True)
    return set(active.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))


def _administers(user: Any) -> bool:
    return bool(user.role == Role.ADMIN and user.is_active)


def _require_another(administrators: set[Any], user_id: Any) -> None:
    if administrators == {user_id}:
        raise Conflict(_("This is the last active administrator."), "last_administrator")


def _apply(user: Any, changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    changed = {}
    for field, value in changes.items():
        before = getattr(user, field)
        if before != value:
            setattr(user, field, value)
            is_open = field in OPEN_FIELDS
            changed[field] = {"from": before, "to": value} if is_open else {}
    if changed:
        user.save(update_fields=list(changed))
    return changed
