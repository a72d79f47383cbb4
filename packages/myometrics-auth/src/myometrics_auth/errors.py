"""Authentication errors with one message for every cause, so that they leak no information."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import AuthenticationFailed

__all__ = ["invalid_credentials", "invalid_token_error"]


def invalid_credentials() -> AuthenticationFailed:
    """Return the 401 for every failed sign-in, whatever the cause."""
    return AuthenticationFailed(_("Invalid credentials"), "invalid_credentials")


def invalid_token_error() -> AuthenticationFailed:
    """Return the 401 for every invalid token, whatever the cause."""
    return AuthenticationFailed(_("The token is invalid or has expired."), "token_not_valid")
