"""The requests that services accept, and their caller."""

from __future__ import annotations

from typing import TypeAlias, cast

from django.http import HttpRequest
from rest_framework.request import Request

from myometrics_core.api import CallerDeleted
from myometrics_core.users import lock_users_shared

from .models import User

AnyRequest: TypeAlias = HttpRequest | Request


def current_user(request: AnyRequest) -> User:
    """Return the user of a request that is not anonymous, as the view's permissions ensure."""
    return cast("User", request.user)


def lock_caller(user: User) -> None:
    """Lock the caller's row; raise ``CallerDeleted`` if it was deleted since authentication."""
    if not lock_users_shared([user.pk]):
        raise CallerDeleted()
