"""Shapes of auth's requests and answers; the specification's camelCase stops here."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from myometrics_core.fields import StrictBooleanField, StrictCharField, UtcDateTimeField
from myometrics_core.pagination import PageSerializer
from myometrics_core.users import user_id_json

from .email_addresses import LONGEST_EMAIL, checked_email, clean_email
from .models import Role

__all__ = [
    "AccessTokenSerializer",
    "AdminUserChangesSerializer",
    "AdminUserSerializer",
    "ChangePasswordSerializer",
    "DetailSerializer",
    "EmailAddressField",
    "LoginSerializer",
    "PasswordField",
    "PasswordResetConfirmSerializer",
    "PasswordResetSerializer",
    "ProfileChangesSerializer",
    "ProfileSerializer",
    "RefreshTokenSerializer",
    "RegisterSerializer",
    "SessionPageSerializer",
    "SessionSerializer",
    "SignedInSerializer",
    "TokenField",
    "UserListQuerySerializer",
    "UserPageSerializer",
]

LONGEST_PASSWORD = 256


class PasswordField(StrictCharField):
    """A password as it was typed: nothing trimmed, at most 256 characters."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            max_length=LONGEST_PASSWORD, trim_whitespace=False, write_only=True, **kwargs
        )


class TokenField(StrictCharField):
    """Any text that isn't empty; whether it is a token of ours is not a matter of shape."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)
        self.validators = []


@extend_schema_field({"type": "string", "format": "email", "maxLength": LONGEST_EMAIL})
class EmailAddressField(StrictCharField):
    """An e-mail address, folded; a ``new`` one must be plain, so that it looks like no other."""

    def __init__(self, *, new: bool = False, **kwargs: Any) -> None:
        self.new = new
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The address, lower-case; raises ``ValidationError``."""
        text = super().to_internal_value(data)
        if len(text) > LONGEST_EMAIL:
            raise serializers.ValidationError(
                _("Ensure this field has no more than 254 characters."), "max_length"
            )
        try:
            return clean_email(text) if self.new else checked_email(text)
        except DjangoValidationError as error:
            raise serializers.ValidationError(error.messages, error.code) from error


@extend_schema_field({"type": "integer"})
class UserIdField(serializers.Field):  # type: ignore[type-arg]
    """A user's primary key."""

    def to_representation(self, value: Any) -> int | str | None:
        """A number or text, as the key is."""
        return user_id_json(value)


class LoginSerializer(serializers.Serializer[Any]):
    """Specification: "POST /auth/login/", request."""

    email = StrictCharField(max_length=LONGEST_EMAIL)
    password = PasswordField()


class ProfileChangesSerializer(serializers.Serializer[Any]):
    """Specification: "PUT /auth/user/", request; any subset."""

    firstName = StrictCharField(source="first_name", max_length=30)
    lastName = StrictCharField(source="last_name", max_length=30)
    clinicName = StrictCharField(
        source="clinic_name", max_length=100, required=False, allow_blank=True
    )


class RegisterSerializer(ProfileChangesSerializer):
    """Specification: "POST /auth/register/", request."""

    email = EmailAddressField(new=True)
    password = PasswordField()


class AdminUserChangesSerializer(ProfileChangesSerializer):
    """Specification: "PUT /users/{id}/", request; any subset."""

    role = serializers.ChoiceField(choices=Role.choices)
    isActive = StrictBooleanField(source="is_active")


class ProfileSerializer(serializers.Serializer[Any]):
    """A user as they see themselves. Specification: "GET /auth/user/", response."""

    id = UserIdField(source="pk")
    email = serializers.EmailField()
    firstName = serializers.CharField(source="first_name")
    lastName = serializers.CharField(source="last_name")
    role = serializers.ChoiceField(choices=Role.choices)
    clinicName = serializers.CharField(source="clinic_name")
    dateJoined = UtcDateTimeField(source="date_joined")


class AdminUserSerializer(ProfileSerializer):
    """A user as administrators see them. Specification: "GET /users/{id}/", response."""

    lastLogin = UtcDateTimeField(source="last_login", allow_null=True)
    isActive = serializers.BooleanField(source="is_active")


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


class DetailSerializer(serializers.Serializer[Any]):
    """One sentence for people."""

    detail = serializers.CharField()


class ChangePasswordSerializer(serializers.Serializer[Any]):
    """Specification: "POST /auth/change-password/", request."""

    old_password = PasswordField()
    new_password = PasswordField()


class PasswordResetSerializer(serializers.Serializer[Any]):
    """Specification: "POST /auth/password-reset/", request."""

    email = EmailAddressField()


class PasswordResetConfirmSerializer(serializers.Serializer[Any]):
    """What the page behind the mailed link sends."""

    uid = StrictCharField(max_length=255)
    token = StrictCharField(max_length=255)
    new_password = PasswordField()


class UserListQuerySerializer(serializers.Serializer[Any]):
    """Specification: "GET /users/", query parameters beside the page's."""

    search = StrictCharField(required=False, allow_blank=True, max_length=255)
    role = serializers.ChoiceField(required=False, allow_blank=True, choices=Role.choices)


class UserPageSerializer(PageSerializer):
    """Specification: "GET /users/", response."""

    results = AdminUserSerializer(many=True)


class SessionSerializer(serializers.Serializer[Any]):
    """One live sign-in of the person who asks."""

    id = serializers.UUIDField()
    device = serializers.CharField(source="user_agent")
    address = serializers.CharField(allow_null=True)
    first_seen = UtcDateTimeField(source="created_at")
    last_seen = UtcDateTimeField(source="refreshed_at")
    expires = UtcDateTimeField(source="expires_at")
    second_factor = serializers.BooleanField()
    current = serializers.SerializerMethodField()

    def get_current(self, session: Any) -> bool:
        """Whether it is the session that asks."""
        return bool(session.pk == self.context.get("current"))


class SessionPageSerializer(PageSerializer):
    """A page of sessions."""

    results = SessionSerializer(many=True)
