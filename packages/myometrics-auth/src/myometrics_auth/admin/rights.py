"""Object-level rules of the admin site: which users staff may change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from myometrics_auth.privileges import Privileges

__all__ = ["has_rights_over", "own_privileges", "require_rights_over"]


def own_privileges(request: HttpRequest) -> Privileges:
    """Return the user's rights before the request changed anything; cached on the request."""
    known: Privileges | None = getattr(request, "_own_privileges", None)
    if known is None:
        known = Privileges.of(request.user)
        request._own_privileges = known  # type: ignore[attr-defined]
    return known


def has_rights_over(request: HttpRequest, user: Any) -> bool:
    """Return whether the request's user has every right of ``user``; true for ``None``."""
    if user is None or request.user.is_superuser:
        return True
    return own_privileges(request).cover(Privileges.of(user))


def require_rights_over(request: HttpRequest, users: Iterable[Any]) -> None:
    """Raise ``PermissionDenied`` unless the request's user has every right of all ``users``."""
    if request.user.is_superuser:
        return
    own_privileges(request)
    if not all(has_rights_over(request, user) for user in users):
        raise PermissionDenied
