"""The two refusals that say the same whatever was wrong, so that nobody learns from them."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import AuthenticationFailed

__all__ = ["invalid_credentials", "invalid_token_error"]


def invalid_credentials() -> AuthenticationFailed:
    """The one answer to every sign-in that fails, whatever the reason."""
    return AuthenticationFailed(_("Invalid credentials"), "invalid_credentials")


def invalid_token_error() -> AuthenticationFailed:
    """The 401 for every token that isn't good, whatever is wrong with it."""
    return AuthenticationFailed(_("The token is invalid or has expired."), "token_not_valid")
