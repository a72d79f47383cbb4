"""Sign-in, sign-out and the list of sessions."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from myometrics_auth.email_addresses import MAX_EMAIL_LENGTH
from myometrics_auth.models import Session
from myometrics_core.api import PageSerializer, StrictCharField, UtcDateTimeField

from .fields import PasswordField, TokenField
from .users import ProfileSerializer

__all__ = [
    "AccessTokenSerializer",
    "LoginSerializer",
    "RefreshTokenSerializer",
    "SessionPageSerializer",
    "SessionSerializer",
    "SignedInSerializer",
]


class LoginSerializer(serializers.Serializer[Any]):
    """Specification: "POST /auth/login/", request."""

    email = StrictCharField(max_length=MAX_EMAIL_LENGTH)
    password = PasswordField()


class SignedInSerializer(serializers.Serializer[Any]):
    """Specification: "POST /auth/login/", response."""

    access = serializers.CharField()
    refresh = serializers.CharField()
    user = ProfileSerializer()


class RefreshTokenSerializer(serializers.Serializer[Any]):
    """Specification: "POST /auth/logout/" and "POST /auth/token/refresh/", request."""

    refresh = TokenField()


class AccessTokenSerializer(serializers.Serializer[Any]):
    """Specification: "POST /auth/token/refresh/", response."""

    access = serializers.CharField()


class SessionSerializer(serializers.Serializer[Any]):
    """One live session of the caller."""

    id = serializers.UUIDField()
    device = serializers.CharField(source="user_agent")
    address = serializers.CharField(allow_null=True)
    first_seen = UtcDateTimeField(source="created_at")
    last_seen = UtcDateTimeField(source="refreshed_at")
    expires = UtcDateTimeField(source="expires_at")
    second_factor = serializers.BooleanField()
    current = serializers.SerializerMethodField()

    def get_current(self, session: Session) -> bool:
        return bool(session.pk == self.context.get("current"))


class SessionPageSerializer(PageSerializer):
    """A page of sessions."""

    results = SessionSerializer(many=True)
