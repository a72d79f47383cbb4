"""Compare the rights of users: in the admin site staff can't grant more than they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import Q, QuerySet

from myometrics_core.settings import core_settings

from .models import Role

__all__ = ["Privileges", "grantable_groups", "grantable_permissions", "grantable_roles"]


@dataclass(frozen=True)
class Privileges:
    """The rights of a user at one moment. An inactive user has the rights of an active one."""

    is_superuser: bool
    is_administrator: bool
    role: str
    permissions: frozenset[str]

    @classmethod
    def of(cls, user: Any) -> Privileges:
        """The rights of ``user``, as read from the database."""
        if user.is_superuser:
            return cls(True, True, user.role, frozenset())
        # A deactivated user may be activated again, so the direct grants count for them, too.
        granted = _granted_permissions(user).values_list("content_type__app_label", "codename")
        named = {f"{app}.{codename}" for app, codename in granted}
        return cls(
            is_superuser=False,
            is_administrator=bool(core_settings.IS_ADMINISTRATOR(user)),
            role=user.role,
            permissions=frozenset(named | user.get_all_permissions()),
        )

    def cover(self, other: Privileges) -> bool:
        """Whether ``other`` has no right that is missing here."""
        if self.is_superuser:
            return True
        if other.is_superuser or other.is_administrator > self.is_administrator:
            return False
        return other.role in grantable_roles(self) and other.permissions <= self.permissions


def grantable_roles(privileges: Privileges) -> list[str]:
    """The roles that are not above that of ``privileges``."""
    roles = list(Role.values)
    if privileges.is_superuser:
        return roles
    return roles[roles.index(privileges.role) :] if privileges.role in roles else []


def grantable_permissions(user: Any) -> QuerySet[Permission]:
    """The permissions that ``user`` may give to others: their own."""
    if user.is_superuser:
        return Permission.objects.all()
    own = _granted_permissions(user).values("pk")
    return Permission.objects.filter(pk__in=own)


def grantable_groups(user: Any) -> QuerySet[Group]:
    """The groups that hold no permission that ``user`` may not give."""
    if user.is_superuser:
        return Group.objects.all()
    missing = Permission.objects.exclude(pk__in=grantable_permissions(user).values("pk"))
    return Group.objects.exclude(permissions__in=missing)


def _granted_permissions(user: Any) -> QuerySet[Permission]:
    groups = user.groups.values("pk")
    direct = user.user_permissions.values("pk")
    return Permission.objects.filter(Q(pk__in=direct) | Q(group__in=groups)).distinct().order_by()
