"""Serializers of users, for themselves and for administrators."""

from __future__ import annotations

from rest_framework import serializers

from myometrics_auth.models import Role
from myometrics_core.api import (
    AttributesSerializer,
    PageSerializer,
    RequestSerializer,
    StrictBooleanField,
    StrictCharField,
    UserIdField,
    UtcDateTimeField,
)

from .fields import EmailAddressField, PasswordField

__all__ = [
    "AdminUserChangesSerializer",
    "AdminUserSerializer",
    "ProfileChangesSerializer",
    "ProfileSerializer",
    "RegisterSerializer",
    "UserListQuerySerializer",
    "UserPageSerializer",
]


class ProfileChangesSerializer(RequestSerializer):
    """Specification: "PUT /auth/user/", request; any subset.

    Blank names are valid here if they are blank already; the service rejects blanking a name.
    """

    firstName = StrictCharField(source="first_name", max_length=30, allow_blank=True)
    lastName = StrictCharField(source="last_name", max_length=30, allow_blank=True)
    clinicName = StrictCharField(
        source="clinic_name", max_length=100, required=False, allow_blank=True
    )


class RegisterSerializer(ProfileChangesSerializer):
    """Specification: "POST /auth/register/", request."""

    firstName = StrictCharField(source="first_name", max_length=30)
    lastName = StrictCharField(source="last_name", max_length=30)
    email = EmailAddressField(new=True)
    password = PasswordField()


class AdminUserChangesSerializer(ProfileChangesSerializer):
    """Specification: "PUT /users/{id}/", request; any subset."""

    role = serializers.ChoiceField(choices=Role.choices)
    isActive = StrictBooleanField(source="is_active")


class ProfileSerializer(AttributesSerializer):
    """A user's own profile. Specification: "GET /auth/user/", response."""

    id = UserIdField(source="pk")
    email = serializers.EmailField()
    firstName = serializers.CharField(source="first_name")
    lastName = serializers.CharField(source="last_name")
    role = serializers.ChoiceField(choices=Role.choices)
    clinicName = serializers.CharField(source="clinic_name")
    dateJoined = UtcDateTimeField(source="date_joined")


class AdminUserSerializer(ProfileSerializer):
    """A user for administrators. Specification: "GET /users/{id}/", response."""

    lastLogin = UtcDateTimeField(source="last_login", allow_null=True)
    isActive = serializers.BooleanField(source="is_active")


class UserListQuerySerializer(RequestSerializer):
    """Specification: "GET /users/", query parameters besides pagination."""

    search = StrictCharField(required=False, allow_blank=True, max_length=255)
    role = serializers.ChoiceField(required=False, allow_blank=True, choices=Role.choices)


class UserPageSerializer(PageSerializer):
    """Specification: "GET /users/", response."""

    results = AdminUserSerializer(many=True)
