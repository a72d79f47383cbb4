"""OpenAPI security schemes of the token authentication."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.extensions import OpenApiAuthenticationExtension

DESCRIPTION: Final = (
    "An access token, or, where the site accepts them, one of an identity provider. Any endpoint "
    "responds with 503 `identity_provider_unavailable` and `Retry-After` to a token that its "
    "provider can't validate now."
)


class SessionTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """``Authorization: Bearer`` with a JWT."""

    target_class = "myometrics_auth.authentication.SessionTokenAuthentication"
    name = "bearerAuth"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": DESCRIPTION,
        }


class ExpiredTokenScheme(SessionTokenScheme):  # type: ignore[no-untyped-call]
    """The same header; an expired token is accepted."""

    target_class = "myometrics_auth.authentication.ExpiredTokenAuthentication"
    name = "bearerAuthExpired"
