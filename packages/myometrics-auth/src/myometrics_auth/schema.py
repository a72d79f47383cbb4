"""OpenAPI security schemes of the token authentication."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

__all__ = ["ExpiredTokenScheme", "SessionTokenScheme"]


class SessionTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """``Authorization: Bearer`` with a JWT."""

    target_class = "myometrics_auth.authentication.SessionTokenAuthentication"
    name = "bearerAuth"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class ExpiredTokenScheme(SessionTokenScheme):  # type: ignore[no-untyped-call]
    """The same header; an expired token is accepted."""

    target_class = "myometrics_auth.authentication.ExpiredTokenAuthentication"
    name = "bearerAuthExpired"
