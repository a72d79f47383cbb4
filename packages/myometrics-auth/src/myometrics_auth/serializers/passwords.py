"""Requests for changing a password and resetting it by mail."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from myometrics_core.api import StrictCharField

from .fields import EmailAddressField, PasswordField

__all__ = ["ChangePasswordSerializer", "PasswordResetConfirmSerializer", "PasswordResetSerializer"]


class ChangePasswordSerializer(serializers.Serializer[Any]):
    """Specification: "POST /auth/change-password/", request."""

    old_password = PasswordField()
    new_password = PasswordField()


class PasswordResetSerializer(serializers.Serializer[Any]):
    """Specification: "POST /auth/password-reset/", request."""

    email = EmailAddressField()


class PasswordResetConfirmSerializer(serializers.Serializer[Any]):
    """Request of the page that the mailed link opens."""

    uid = StrictCharField(max_length=255)
    token = StrictCharField(max_length=255)
    new_password = PasswordField()
