"""Errors of sign-ins; one message for every cause of a 401, so that they leak no information."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied


class EmailNotVerified(PermissionDenied):
    """403 for a user who has to verify the address first (``EMAIL_VERIFICATION``)."""

    default_detail = _("Verify your e-mail address first, by the link in the mail you were sent.")
    default_code = "email_not_verified"


class InvalidCredentials(AuthenticationFailed):
    """401 for every failed sign-in."""

    default_detail = _("Invalid credentials")
    default_code = "invalid_credentials"


class SecondFactorMissing(InvalidCredentials):
    """401 for a sign-in without the second factor that the user has."""


class InvalidToken(AuthenticationFailed):
    """401 for every token that was not issued here, has the wrong type, or has expired or ended."""

    default_detail = _("The token is invalid or has expired.")
    default_code = "token_not_valid"


class RegistrationClosed(PermissionDenied):
    """403 if registration is closed (``REGISTRATION``)."""

    default_detail = _("Registration is closed.")
    default_code = "registration_closed"
