"""Shapes of the second factor's requests and answers."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from myometrics_core.fields import StrictCharField

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

LONGEST_CODE = 32


@extend_schema_field({"type": "boolean", "enum": [True]})
class AlwaysTrueField(serializers.BooleanField):
    """A switch that is always on where it appears."""


class SecondFactorRequiredSerializer(serializers.Serializer[Any]):
    """The answer of a sign-in that needs a second factor."""

    mfa_required = AlwaysTrueField()
    mfa_token = serializers.CharField()


class SecondFactorSerializer(serializers.Serializer[Any]):
    """What finishes such a sign-in: a code of the app or a recovery code."""

    mfa_token = TokenField()
    code = StrictCharField(max_length=LONGEST_CODE)


class PasswordSerializer(serializers.Serializer[Any]):
    """The password once more."""

    password = PasswordField()


class CodeSerializer(serializers.Serializer[Any]):
    """A code of the app."""

    code = StrictCharField(max_length=LONGEST_CODE)


class PasswordAndCodeSerializer(PasswordSerializer, CodeSerializer):
    """The password once more, and a code of the app or a recovery code."""


class TotpSecretSerializer(serializers.Serializer[Any]):
    """What an authenticator app needs; shown this once."""

    secret = serializers.CharField(help_text="Base32, to type in.")
    otpauth_url = serializers.CharField(help_text="To show as a QR code.")


class RecoveryCodesSerializer(serializers.Serializer[Any]):
    """Codes that each stand in for the app once; shown this once."""

    recovery_codes = serializers.ListField(child=serializers.CharField())


class SecondFactorStateSerializer(serializers.Serializer[Any]):
    """Whether the person who asks has a second factor, must have one, and what is left."""

    enabled = serializers.BooleanField()
    required = serializers.BooleanField()  # type: ignore[assignment]  # DRF's own attribute
    recovery_codes_left = serializers.IntegerField()
