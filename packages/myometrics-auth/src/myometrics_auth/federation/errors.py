"""Refusals of sign-ins by an identity provider."""

from __future__ import annotations

from typing import Final

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException, PermissionDenied

from myometrics_auth.errors import InvalidToken

TOKEN_NOT_VALID: Final = "token_not_valid"  # noqa: S105
_REASONS: Final = {
    "identity_not_linked": _(
        "There is an account with this address. Sign in to it and link this provider first."
    ),
    "email_not_verified": _("Your e-mail address is not verified."),
    "access_not_allowed": _("Your account at the provider has no access here."),
    "mfa_required": _("Sign in at the provider with a second factor."),
}


class ProviderUnavailable(APIException):
    """503: the identity provider, or the calls to it, can't validate the token now."""

    status_code = 503
    default_detail = _("The identity provider can't be reached. Try again later.")
    default_code = "identity_provider_unavailable"
    wait = 5  # seconds, for Retry-After


def refusal(code: str) -> APIException:
    """Return the exception of a refusal: 403 with ``code``, or 401 for an invalid token."""
    if code in _REASONS:
        return PermissionDenied(_REASONS[code], code)
    return InvalidToken()


def code_of(error: APIException) -> str:
    """Return the code with which :func:`refusal` makes the same exception again."""
    code = str(getattr(error.detail, "code", ""))
    return code if code in _REASONS else TOKEN_NOT_VALID
