"""Accounts: registration, changes by their owner or an administrator, erasure.

The last active administrator is protected, for any rule in ``IS_ADMINISTRATOR``.

Specification: "POST /auth/register/", "PUT /auth/user/" and "User Management Endpoints".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, QuerySet, RestrictedError
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException, NotFound, PermissionDenied, ValidationError
from rest_framework.fields import CharField

from myometrics_auth.conf import auth_settings
from myometrics_auth.errors import RegistrationClosed
from myometrics_auth.events import publish_invitation_event, publish_user_change
from myometrics_auth.models import EmailChange, User
from myometrics_auth.requests import AnyRequest
from myometrics_auth.selectors import (
    LIKELY_ADMINISTRATOR,
    TAKEN,
    email_problems,
    is_reserved,
)
from myometrics_core.api import CallerDeleted, Conflict
from myometrics_core.db import atomic_write, is_foreign_key_violation, read_committed
from myometrics_core.personal_data import erase_user
from myometrics_core.users import canonical_email, is_administrator

from .invitations import invitation_accept, invitation_check
from .notices import notice_send
from .passwords import password_problems
from .verification import verification_request

NAMES: Final = {"first_name": "firstName", "last_name": "lastName"}
"""Fields that can't be blanked, and their names in the API."""
FLAGS: Final = ("is_staff", "is_superuser")
"""Flags that depend on the role."""
OPEN_FIELDS = frozenset({"role", "is_active", *FLAGS})
"""Fields whose values are published; for others events only say that they changed."""


def user_register(
    *, email: str, password: str, request: AnyRequest, invitation: str = "", **profile: Any
) -> User:
    """Create an account of the default role, or by an invitation's token of its role and clinic.

    ``email`` comes from :func:`~myometrics_auth.email_addresses.clean_email`, ``profile`` contains
    values of the user model's ``PROFILE_FIELDS``; the clinic is ignored if only administrators set
    it. An invitation verifies the address; otherwise a link is mailed.

    Raises ``ValidationError`` on ``invitation``, on ``email`` if it is taken or not the invited
    one, and on ``password``; ``PermissionDenied`` if registration is closed.
    """
    registration_require()
    invited = None
    # Before the address is looked up, so that only invited users learn whether it is taken.
    if invitation or auth_settings.REGISTRATION == "invitation":
        invited = invitation_check(invitation, email=email)
    if auth_settings.CLINIC_NAME_SET_BY == "administrators":
        profile.pop("clinic_name", None)
    user = get_user_model()(email=email, self_registered=True, **profile)
    problems = {"email": email_problems(email), "password": password_problems(password, user)}
    if any(problems.values()):
        raise ValidationError({field: found for field, found in problems.items() if found})
    user.set_password(password)
    with email_conflicts_reported(email), atomic_write():
        if invited is not None:
            invitation_accept(invitation=invited, user=user)
        user.save()
        unreserved_require(user)
        if invited is None:
            verification_request(email=email)
        else:
            publish_invitation_event(
                "invitation_accepted", invitation=invited, actor=user, request=request
            )
    return user


def registration_require() -> None:
    """Raise ``PermissionDenied`` (``registration_closed``) if registration is closed."""
    if auth_settings.REGISTRATION == "closed":
        raise RegistrationClosed


def unreserved_require(user: User) -> None:
    """Raise ``ValidationError`` on ``email`` if the address of ``user`` is reserved for another.

    Call it after the address was written, in the same transaction: an address that is given up
    concurrently is either still taken or already reserved.
    """
    if is_reserved(user.email, excluding=user):
        raise ValidationError({"email": [TAKEN]})


@contextmanager
def email_conflicts_reported(email: str, *, excluding: User | None = None) -> Iterator[None]:
    """Raise ``ValidationError`` on ``email`` if a write fails because the address is taken.

    Wraps the transaction. An ``IntegrityError`` of any other cause (another unique column, a signal
    receiver of the site) is re-raised.
    """
    try:
        yield
    except IntegrityError as error:
        problems = email_problems(email, excluding=excluding)
        if not problems:
            raise
        raise ValidationError({"email": problems}) from error


@contextmanager
def administrator_kept(user_id: Any) -> Iterator[None]:
    """Open a transaction for changing or deleting a user, except the last administrator.

    The rule is evaluated before and after. Raises ``Conflict`` and rolls back if no active
    administrator would be left. The locks don't block writes of rows that refer to the locked
    users.
    """
    with atomic_write():
        is_last = _lock_with_another(user_id)
        yield
        if is_last and not _administers(user_id):
            raise Conflict(_("This is the last active administrator."), "last_administrator")


def user_update_profile(*, user: User, changes: Mapping[str, Any]) -> User:
    """Change a user's own profile; return the updated user.

    Raises ``ValidationError`` when blanking a name, and for a changed clinic if only administrators
    set it.
    """
    with atomic_write():
        current = _locked(user.pk, missing=CallerDeleted())
        _require_names(current, changes)
        clinic = changes.get("clinic_name", current.clinic_name)
        is_allowed = auth_settings.CLINIC_NAME_SET_BY == "owner" or is_administrator(current)
        if clinic != current.clinic_name and not is_allowed:
            problem = _("Only an administrator may change the clinic.")
            raise ValidationError({"clinicName": [problem]})
        _apply(current, changes)
    return current


def user_update(
    *,
    actor: User | None,
    user_id: Any,
    changes: Mapping[str, Any],
    request: AnyRequest | None,
    may_blank_names: bool = False,
    details: Mapping[str, Any] | None = None,
) -> User:
    """Change a user as an administrator; return the updated user.

    Deactivation ends the user's sessions. ``details`` are added to those of the event. Raises
    ``NotFound``; ``PermissionDenied`` for a superuser, unless the actor is one; ``ValidationError``
    when blanking a name; and ``Conflict`` if no active administrator would be left.
    """
    with atomic_write():
        with administrator_kept(user_id):
            user = _locked(user_id, missing=NotFound(_("There is no such user.")))
            _require_superuser_for(actor, user)
            if not may_blank_names:
                _require_names(user, changes)
            old_email = user.email
            changed = _apply_by_administrator(user, changes)
        if not user.is_active:
            user.sessions.end()
        if changed:
            publish_user_change(
                "user_updated",
                actor=actor,
                user_id=user.pk,
                details={"changed": changed, **(details or {})},
                request=request,
            )
        if canonical_email(old_email) != user.email_canonical:
            for address in (old_email, user.email):
                notice_send(user=user, notice="email_changed", request=None, address=address)
    return user


def user_delete(*, actor: User | None, user_id: Any, request: AnyRequest | None) -> None:
    """Erase a user and all data of the installed packages about them, atomically.

    Raises ``NotFound``; ``PermissionDenied`` for a superuser, unless the actor is one; and
    ``Conflict`` for the last active administrator and for a user whom other rows protect.
    """
    # Read committed: also erase rows that are written until the user is locked.
    with deletion_conflicts_reported(), read_committed(), atomic_write():
        with administrator_kept(user_id):
            missing = NotFound(_("There is no such user."))
            user = _locked(user_id, missing=missing, to_delete=True)
            _require_superuser_for(actor, user)
            erase_user(user)
        # After self-erasure the entry must not hold the user's key or address.
        by_self = actor is not None and user_id == actor.pk
        publish_user_change(
            "user_deleted",
            actor=None if by_self else actor,
            user_id=user_id,
            details={"by": "self" if by_self else "administrator"},
            request=None if by_self else request,
        )


@contextmanager
def deletion_conflicts_reported() -> Iterator[None]:
    """Raise ``Conflict`` (``in_use``) if the site's rows protect a user from deletion.

    Wraps the transaction: databases may check foreign keys only at commit.
    """
    try:
        yield
    except IntegrityError as error:
        is_protected = isinstance(error, (ProtectedError, RestrictedError))
        if not (is_protected or is_foreign_key_violation(error)):
            raise
        problem = _("Other records refer to this user, so the account can't be deleted.")
        raise Conflict(problem, "in_use") from error


def user_erase_self(*, user: User) -> None:
    """Erase the caller's own account, like :func:`user_delete`."""
    try:
        user_delete(actor=user, user_id=user.pk, request=None)
    except NotFound as error:
        raise CallerDeleted() from error


def _locked(user_id: Any, *, missing: APIException, to_delete: bool = False) -> User:
    # Only a deletion has to block writers of rows that refer to the user.
    users = get_user_model().objects.select_for_update(no_key=not to_delete)
    user = users.filter(pk=user_id).first()
    if user is None:
        raise missing
    return user


def _require_superuser_for(actor: User | None, user: User) -> None:
    # No actor: a call by the site's own code.
    if user.is_superuser and actor is not None and not actor.is_superuser:
        raise PermissionDenied(_("Only a superuser may change a superuser."))


def _require_names(user: User, changes: Mapping[str, Any]) -> None:
    blanked = [
        shown
        for name, shown in NAMES.items()
        if changes.get(name) == "" and getattr(user, name).strip()
    ]
    if blanked:
        problem = CharField.default_error_messages["blank"]
        raise ValidationError({shown: [problem] for shown in blanked})


def _apply(user: User, changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    before = {name: getattr(user, name) for name in (*changes, *FLAGS)}
    for name, value in changes.items():
        setattr(user, name, value)
    if given := [name for name, value in changes.items() if before[name] != value]:
        user.save(update_fields=given)
    return {
        name: {"from": value, "to": getattr(user, name)} if name in OPEN_FIELDS else {}
        for name, value in before.items()
        if getattr(user, name) != value
    }


def _apply_by_administrator(user: User, changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    is_moved = canonical_email(changes.get("email", user.email)) != user.email_canonical
    if not is_moved:
        return _apply(user, changes)
    # The administrator chose the new address; it is not verified yet.
    changed = _apply(user, {**changes, "self_registered": False, "verified_at": None})
    unreserved_require(user)
    # Older links must not replace the administrator's choice.
    EmailChange.objects.filter(user=user).delete()
    return changed


def _lock_with_another(user_id: Any) -> bool:
    # Lock an administrator together with another one, in key order: if two demote each other, the
    # second one waits and then is the last. Returns whether it is the last.
    while True:
        was_administrator = _administers(user_id)
        other = _another_than(user_id) if was_administrator else None
        keys = [user_id] if other is None else sorted([user_id, other])
        savepoint = transaction.savepoint()
        for key in keys:
            list(_users().select_for_update(no_key=True).filter(pk=key).values_list("pk"))
        is_other_left = other is None or _administers(other)
        if is_other_left and _administers(user_id) == was_administrator:
            transaction.savepoint_commit(savepoint)
            return was_administrator and other is None
        # Changed while waiting. Release the locks: a third lock would be out of order.
        transaction.savepoint_rollback(savepoint)


def _another_than(user_id: Any) -> Any | None:
    # Likely administrators first: a site's rule may cost a query per user.
    others = _users().filter(is_active=True).exclude(pk=user_id).order_by("pk")
    for candidates in (others.filter(LIKELY_ADMINISTRATOR), others.exclude(LIKELY_ADMINISTRATOR)):
        for user in candidates.iterator(chunk_size=500):
            if is_administrator(user):
                return user.pk
    return None


def _administers(user_id: Any) -> bool:
    return is_administrator(_users().filter(pk=user_id).first())


def _users() -> QuerySet[Any]:
    # Not the site's manager: it may filter rows.
    return QuerySet(get_user_model())
