"""The requests that services accept, and their user."""

from __future__ import annotations

from typing import TypeAlias, cast

from django.http import HttpRequest
from rest_framework.request import Request

from .models import User

__all__ = ["AnyRequest", "current_user"]

AnyRequest: TypeAlias = HttpRequest | Request


def current_user(request: AnyRequest) -> User:
    """Return the user of a request that is not anonymous, as the view's permissions ensure."""
    return cast("User", request.user)
