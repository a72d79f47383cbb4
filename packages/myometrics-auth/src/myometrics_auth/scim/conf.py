"""The providers of ``MYOMETRICS_AUTH["SCIM"]``, and the roles that their groups give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Q

from myometrics_auth.conf import ROLES, auth_settings


def providers() -> Mapping[str, Mapping[str, Any]]:
    """Return the settings of each provider by its slug."""
    return dict(auth_settings.SCIM)


def group_role(provider: str, display_name: str, external_id: str) -> str | None:
    """Return the role that a group gives by its name or its id at the provider, if any."""
    roles = providers().get(provider, {}).get("roles", {})
    return roles.get(external_id) or roles.get(display_name)


def groups_with_roles() -> Q | None:
    """Return the condition for groups that give a role; ``None`` if no group does."""
    found = Q()
    for slug, settings in providers().items():
        if names := list(settings.get("roles", {})):
            is_named = Q(group__display_name__in=names) | Q(group__external_id__in=names)
            found |= Q(group__provider=slug) & is_named
    return found or None


def highest_role(roles: set[str]) -> str | None:
    """Return the role with the most permissions, ``None`` for an empty set."""
    return min(roles, key=ROLES.index, default=None)
