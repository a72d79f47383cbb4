"""Authentication errors with one message for every cause, so that they leak no information."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import AuthenticationFailed

__all__ = ["InvalidCredentials", "InvalidToken"]


class InvalidCredentials(AuthenticationFailed):
    """401 for every failed sign-in."""

    default_detail = _("Invalid credentials")
    default_code = "invalid_credentials"


class InvalidToken(AuthenticationFailed):
    """401 for every token that was not issued here, has the wrong type, or has expired or ended."""

    default_detail = _("The token is invalid or has expired.")
    default_code = "token_not_valid"
