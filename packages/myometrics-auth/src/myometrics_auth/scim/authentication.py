"""Authentication of SCIM requests by the provider's bearer token."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from myometrics_auth.errors import InvalidToken

from .models import ProvisioningToken
from .provisioning_tokens import token_find


class ScimClient(AnonymousUser):
    """The identity provider that sends a request; it has no row in the user table."""

    def __init__(self, provider: str) -> None:
        self.provider = provider

    @property
    def is_authenticated(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_anonymous(self) -> bool:  # type: ignore[override]
        return False


class ProvisioningTokenAuthentication(BaseAuthentication):
    """Authenticate ``Authorization: Bearer <token>`` for the provider in the path.

    A token of another provider is as invalid as an unknown one.
    """

    def authenticate(self, request: Request) -> tuple[Any, ProvisioningToken] | None:
        scheme, _space, text = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = token_find(text.strip())
        kwargs = (getattr(request, "parser_context", None) or {}).get("kwargs", {})
        if token is None or token.provider != kwargs.get("slug"):
            raise InvalidToken
        return ScimClient(token.provider), token

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
