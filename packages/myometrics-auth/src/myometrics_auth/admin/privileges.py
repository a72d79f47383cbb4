"""Rights in the admin site: staff can't grant rights that they don't have, nor edit users with more
rights.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass

from django.contrib.auth.models import Group, Permission
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from myometrics_auth.models import User
from myometrics_auth.requests import current_user
from myometrics_auth.selectors import grantable_roles
from myometrics_core.users import is_administrator


@dataclass(frozen=True)
class Privileges:
    """A snapshot of a user's rights. Inactive users are evaluated as if they were active."""

    is_superuser: bool
    is_administrator: bool
    role: str
    permissions: frozenset[str]

    @classmethod
    def of(cls, user: User) -> Privileges:
        """Return the rights of ``user``, as read from the database."""
        if user.is_superuser:
            return cls(True, True, user.role, frozenset())
        # A deactivated user may be reactivated.
        as_active = copy(user)
        as_active.is_active = True
        granted = _granted_permissions(user).values_list("content_type__app_label", "codename")
        named = {f"{app}.{codename}" for app, codename in granted}
        return cls(
            is_superuser=False,
            is_administrator=is_administrator(as_active),
            role=user.role,
            permissions=frozenset(named | user.get_all_permissions()),
        )

    def cover(self, other: Privileges) -> bool:
        """Return whether these rights include all rights of ``other``."""
        if self.is_superuser:
            return True
        if other.is_superuser or other.is_administrator > self.is_administrator:
            return False
        return other.role in roles_within(self) and other.permissions <= self.permissions


def roles_within(privileges: Privileges) -> list[str]:
    """Return the roles that a user with ``privileges`` may grant."""
    return grantable_roles(privileges.role, is_superuser=privileges.is_superuser)


def grantable_permissions(user: User) -> QuerySet[Permission]:
    """Return the permissions that ``user`` may grant: their own."""
    if user.is_superuser:
        return Permission.objects.all()
    return Permission.objects.filter(pk__in=_granted_permissions(user))


def grantable_groups(user: User) -> QuerySet[Group]:
    """Return the groups whose permissions ``user`` may all grant."""
    if user.is_superuser:
        return Group.objects.all()
    missing = Permission.objects.exclude(pk__in=grantable_permissions(user).values("pk"))
    return Group.objects.exclude(permissions__in=missing)


def own_privileges(request: HttpRequest) -> Privileges:
    """Return the user's rights before the request changed anything; cached on the request."""
    known: Privileges | None = getattr(request, "_own_privileges", None)
    if known is None:
        known = Privileges.of(current_user(request))
        request._own_privileges = known  # type: ignore[attr-defined]
    return known


def has_rights_over(request: HttpRequest, user: User | None) -> bool:
    """Return whether the request's user has every right of ``user``; true for ``None``."""
    if user is None or request.user.is_superuser:
        return True
    return own_privileges(request).cover(Privileges.of(user))


def require_rights_over(request: HttpRequest, users: Iterable[User]) -> None:
    """Raise ``PermissionDenied`` unless the request's user has every right of all ``users``."""
    if request.user.is_superuser:
        return
    own_privileges(request)
    if not all(has_rights_over(request, user) for user in users):
        raise PermissionDenied


def _granted_permissions(user: User) -> QuerySet[Permission]:
    is_granted = Q(pk__in=user.user_permissions.all()) | Q(group__in=user.groups.all())
    return Permission.objects.filter(is_granted).distinct().order_by()
