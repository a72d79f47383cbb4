"""How the token authentication shows in an OpenAPI schema."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

__all__ = ["ExpiredTokenScheme", "SessionTokenScheme"]


class SessionTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """``Authorization: Bearer`` with a JWT."""

    target_class = "myometrics_auth.authentication.SessionTokenAuthentication"
    name = "bearerAuth"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """The security scheme of OpenAPI."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class ExpiredTokenScheme(SessionTokenScheme):  # type: ignore[no-untyped-call]
    """The same header; a token past its time will do."""

    target_class = "myometrics_auth.authentication.ExpiredTokenAuthentication"
    name = "bearerAuthExpired"
