"""Serializers of the second factor's requests and responses."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from myometrics_core.api import StrictCharField

from .fields import PasswordField, TokenField

__all__ = [
    "CodeSerializer",
    "PasswordAndCodeSerializer",
    "PasswordSerializer",
    "RecoveryCodesSerializer",
    "SecondFactorRequiredSerializer",
    "SecondFactorSerializer",
    "SecondFactorStateSerializer",
    "TotpSecretSerializer",
]

MAX_CODE_LENGTH = 32


@extend_schema_field({"type": "boolean", "enum": [True]})
class AlwaysTrueField(serializers.BooleanField):
    """A boolean that is always true where it is present."""


class SecondFactorRequiredSerializer(serializers.Serializer[Any]):
    """The response to a sign-in that needs a second factor."""

    mfa_required = AlwaysTrueField()
    mfa_token = serializers.CharField()


class SecondFactorSerializer(serializers.Serializer[Any]):
    """The second sign-in step: a code of the app or a recovery code."""

    mfa_token = TokenField()
    code = StrictCharField(max_length=MAX_CODE_LENGTH)


class PasswordSerializer(serializers.Serializer[Any]):
    """The current password, required again."""

    password = PasswordField()


class CodeSerializer(serializers.Serializer[Any]):
    """A code of the app."""

    code = StrictCharField(max_length=MAX_CODE_LENGTH)


class PasswordAndCodeSerializer(PasswordSerializer, CodeSerializer):
    """The current password, and a code of the app or a recovery code."""


class TotpSecretSerializer(serializers.Serializer[Any]):
    """The secret for an authenticator app; returned only once."""

    secret = serializers.CharField(help_text="Base32, to type in.")
    otpauth_url = serializers.CharField(help_text="To show as a QR code.")


class RecoveryCodesSerializer(serializers.Serializer[Any]):
    """One-time replacements for a code of the app; returned only once."""

    recovery_codes = serializers.ListField(child=serializers.CharField())


class SecondFactorStateSerializer(serializers.Serializer[Any]):
    """Whether the caller has and must have a second factor, and the recovery codes left."""

    enabled = serializers.BooleanField()
    required = serializers.BooleanField()  # type: ignore[assignment]  # DRF's own attribute
    recovery_codes_left = serializers.IntegerField()
