"""Users and groups of identity providers: create, match, change, remove, and the roles they give.

Every function runs in the transaction that its caller has opened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from django.contrib.auth import get_user_model
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import PermissionDenied, ValidationError

from myometrics_auth.events import publish_user_change
from myometrics_auth.models import User
from myometrics_auth.requests import AnyRequest
from myometrics_auth.selectors import email_problems
from myometrics_auth.services.users import user_update
from myometrics_auth.services.verification import other_access_remove, password_disable
from myometrics_core.api import Conflict
from myometrics_core.db import atomic_write
from myometrics_core.times import utc_now
from myometrics_core.users import (
    canonical_email,
    fold_text,
    is_administrator,
    lock_users_shared,
)

from .conf import group_role, groups_with_roles, highest_role
from .models import ProvisionedUser, ProvisioningGroup, ProvisioningMembership

BATCH = 500
MAX_FOLDED_LENGTH = 512


@dataclass(frozen=True)
class UserData:
    """What a provider says about a user; ``names`` are the account's fields that it sets."""

    user_name: str
    email: str
    external_id: str = ""
    is_active: bool = True
    names: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


def user_provision(*, provider: str, data: UserData, request: AnyRequest) -> ProvisionedUser:
    """Create an account without a password, or reactivate the one that the provider deleted.

    Raises ``Conflict`` (``taken``) for the user name or the address of another user.
    """
    _require_free_user_name(provider, data.user_name)
    if (deleted := _deleted(provider, data)) is not None:
        return _reactivate(deleted, data, request)
    _require_free_address(data.email)
    user = get_user_model()(
        email=data.email, is_active=data.is_active, self_registered=False, **data.names
    )
    user.set_unusable_password()
    user.save()
    details = {"role": user.role, **_by(provider)}
    publish_user_change(
        "user_created", actor=None, user_id=user.pk, details=details, request=request
    )
    return ProvisionedUser.objects.create(provider=provider, user=user, **_columns(data))


def user_match(*, provider: str, address: str) -> None:
    """Show a provider the existing account of ``address``, if it has not seen it before."""
    users = get_user_model().objects.filter(email_canonical=canonical_email(address))
    user = users.first()
    if user is None or ProvisionedUser.objects.filter(provider=provider, user=user).exists():
        return
    with atomic_write():
        if lock_users_shared([user.pk]):
            matched = ProvisionedUser(
                provider=provider,
                user=user,
                user_name=user.email,
                user_name_folded=_folded(user.email),
                is_created=False,
            )
            # Another request may match it at the same time.
            ProvisionedUser.objects.bulk_create([matched], ignore_conflicts=True)


def user_revise(*, provisioned: ProvisionedUser, data: UserData, request: AnyRequest) -> None:
    """Change a user as the provider says; deactivation ends the sessions.

    Raises ``Conflict`` for the last administrator and for a user name or an address that is taken,
    and ``PermissionDenied`` for the address of an administrator or of staff whom the provider did
    not create: with the address, the provider could reset the password.
    """
    user = provisioned.user
    changes: dict[str, Any] = {"is_active": data.is_active, **data.names}
    if canonical_email(data.email) != user.email_canonical:
        if not provisioned.is_created and _is_privileged(user):
            raise PermissionDenied(_("The address of this administrator can't be changed."))
        _require_free_address(data.email)
        changes["email"] = data.email
    if _folded(data.user_name) != provisioned.user_name_folded:
        _require_free_user_name(provisioned.provider, data.user_name)
    provisioned.user = _user_change(user.pk, provisioned.provider, changes, request)
    for name, value in _columns(data).items():
        setattr(provisioned, name, value)
    provisioned.modified_at = utc_now()
    provisioned.save()


def user_remove(*, provisioned: ProvisionedUser, request: AnyRequest) -> None:
    """Deactivate a user and hide it from the provider; the account and its data stay.

    Raises ``Conflict`` for the last administrator.
    """
    provider, user_id = provisioned.provider, provisioned.user_id
    _user_change(user_id, provider, {"is_active": False}, request)
    provisioned.deleted_at = provisioned.modified_at = utc_now()
    provisioned.save(update_fields=["deleted_at", "modified_at"])
    memberships = ProvisioningMembership.objects.filter(group__provider=provider, user=user_id)
    groups = [membership.group for membership in memberships.select_related("group")]
    memberships.delete()
    for group in sorted(groups, key=lambda group: group.pk):
        _touch(group)
    lost = {user_id} if any(_role_of(group) for group in groups) else set()
    _apply_roles(lost, lost=lost, provider=provider, request=request)


def group_create(
    *, provider: str, display_name: str, external_id: str, member_ids: Collection[Any], request: Any
) -> ProvisioningGroup:
    """Create a group; members that the provider does not see are left out.

    Raises ``Conflict`` (``taken``) for the name of another group.
    """
    _require_free_name(provider, display_name)
    lock_users_shared(member_ids)
    group = ProvisioningGroup.objects.create(
        provider=provider,
        display_name=display_name,
        display_name_folded=_folded(display_name),
        external_id=external_id,
    )
    joined = _join(group, member_ids)
    if _role_of(group):
        _apply_roles(joined, lost=set(), provider=provider, request=request)
    return group


def group_update(
    *,
    group: ProvisioningGroup,
    display_name: str,
    external_id: str,
    joining: Collection[Any],
    leaving: Collection[Any],
    request: AnyRequest,
) -> None:
    """Change a locked group, and the roles of its members if it gives one."""
    role_before = _role_of(group)
    if _folded(display_name) != group.display_name_folded:
        _require_free_name(group.provider, display_name)
    group.display_name, group.external_id = display_name, external_id
    group.display_name_folded = _folded(display_name)
    _touch(group, "display_name", "display_name_folded", "external_id")
    before = set(_member_ids(group)) if _role_of(group) != role_before else set()
    left: set[Any] = set()
    for batch in _batches(leaving):
        rows = ProvisioningMembership.objects.filter(group=group, user_id__in=batch)
        left.update(rows.values_list("user_id", flat=True))
        rows.delete()
    joined = _join(group, joining)
    lost = (left | before) if role_before else set()
    if role_before or _role_of(group):
        affected = before | left | joined
        _apply_roles(affected, lost=lost, provider=group.provider, request=request)


def group_delete(*, group: ProvisioningGroup, request: AnyRequest) -> None:
    """Delete a locked group; its members lose the role that it gave."""
    lost = set(_member_ids(group)) if _role_of(group) else set()
    group.delete()
    _apply_roles(lost, lost=lost, provider=group.provider, request=request)


def _deleted(provider: str, data: UserData) -> ProvisionedUser | None:
    deleted = ProvisionedUser.objects.filter(provider=provider, deleted_at__isnull=False)
    by_email = deleted.filter(user__email_canonical=canonical_email(data.email))
    by_name = deleted.filter(user_name_folded=_folded(data.user_name)).order_by("-deleted_at")
    # Not ordered by key: PostgreSQL could choose that index, and read every user.
    found = list(by_email[:1]) or list(by_name[:1])
    return found[0] if found else None


def _reactivate(deleted: ProvisionedUser, data: UserData, request: AnyRequest) -> ProvisionedUser:
    # The user first, as in every transaction; then one of several requests at once.
    list(get_user_model().objects.select_for_update(no_key=True).filter(pk=deleted.user_id))
    rows = ProvisionedUser.objects.filter(pk=deleted.pk, deleted_at__isnull=False)
    if not rows.update(deleted_at=None):
        raise _taken()
    provisioned = ProvisionedUser.objects.select_related("user").get(pk=deleted.pk)
    user_revise(provisioned=provisioned, data=data, request=request)
    return provisioned


def _columns(data: UserData) -> dict[str, Any]:
    return {
        "user_name": data.user_name,
        "user_name_folded": _folded(data.user_name),
        "external_id": data.external_id,
        "attributes": dict(data.attributes),
    }


def _user_change(
    user_id: Any, provider: str, changes: Mapping[str, Any], request: AnyRequest
) -> User:
    """Change a user; remove other access to an account that its owner may not have registered."""
    unproven = get_user_model().objects.filter(self_registered=True, verified_at=None, pk=user_id)
    is_unproven = unproven.exists()
    user = user_update(
        actor=None,
        user_id=user_id,
        changes=changes,
        request=request,
        may_blank_names=True,
        details=_by(provider),
    )
    if is_unproven:
        other_access_remove(user=user, request=request)
        password_disable(user=user)
    return user


def _is_privileged(user: User) -> bool:
    # Also while deactivated: the provider could change the address then, and reactivate the user.
    active = copy(user)
    active.is_active = True
    return user.is_staff or user.is_superuser or is_administrator(active)


def _by(provider: str) -> dict[str, str]:
    return {"by": "scim", "provider": provider}


def _folded(text: str) -> str:
    folded = fold_text(text)
    if len(folded) > MAX_FOLDED_LENGTH:
        raise ValidationError({"userName": [_("The name is too long.")]})
    return folded


def _taken() -> Conflict:
    return Conflict(_("Another resource has this name or address."), "taken")


def _require_free_user_name(provider: str, user_name: str) -> None:
    visible = ProvisionedUser.objects.filter(provider=provider, deleted_at=None)
    if visible.filter(user_name_folded=_folded(user_name)).exists():
        raise _taken()


def _require_free_address(email: str) -> None:
    if email_problems(email):
        raise _taken()


def _require_free_name(provider: str, display_name: str) -> None:
    groups = ProvisioningGroup.objects.filter(provider=provider)
    if groups.filter(display_name_folded=_folded(display_name)).exists():
        raise _taken()


def _touch(group: ProvisioningGroup, *fields: str) -> None:
    group.version += 1
    group.modified_at = utc_now()
    group.save(update_fields=["version", "modified_at", *fields])


def _join(group: ProvisioningGroup, user_ids: Collection[Any]) -> set[Any]:
    joined: set[Any] = set()
    for batch in _batches(user_ids):
        visible = ProvisionedUser.objects.filter(
            provider=group.provider, deleted_at=None, user_id__in=batch
        )
        found = list(visible.values_list("user_id", flat=True))
        rows = [ProvisioningMembership(group=group, user_id=key) for key in found]
        ProvisioningMembership.objects.bulk_create(rows, ignore_conflicts=True)
        joined.update(found)
    return joined


def _member_ids(group: ProvisioningGroup) -> Iterator[Any]:
    members = ProvisioningMembership.objects.filter(group=group)
    return members.values_list("user_id", flat=True).iterator()


def _role_of(group: ProvisioningGroup) -> str | None:
    return group_role(group.provider, group.display_name, group.external_id)


def _apply_roles(
    user_ids: Collection[Any], *, lost: Collection[Any], provider: str, request: AnyRequest
) -> None:
    """Give each user the highest role of their groups; without one, ``lost`` get the default."""
    condition = groups_with_roles()
    default = get_user_model()._meta.get_field("role").get_default()
    for batch in _batches(sorted(user_ids)):
        given: dict[Any, set[str]] = {key: set() for key in batch}
        if condition is not None:
            memberships = ProvisioningMembership.objects.filter(condition, user_id__in=batch)
            for membership in memberships.select_related("group"):
                if role := _role_of(membership.group):
                    given[membership.user_id].add(role)
        users: Iterable[User] = get_user_model().objects.filter(pk__in=batch).order_by("pk")
        for user in users:
            role = highest_role(given[user.pk]) or (default if user.pk in lost else user.role)
            if role != user.role:
                _user_change(user.pk, provider, {"role": role}, request)


def _batches(keys: Collection[Any]) -> Iterator[list[Any]]:
    rest = iter(keys)
    while batch := list(islice(rest, BATCH)):
        yield batch
