"""Serializers of the requests and responses about passkeys."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from myometrics_auth.serializers import PasswordField, TokenField
from myometrics_core.api import (
    AttributesSerializer,
    JSONObjectField,
    StrictCharField,
    UtcDateTimeField,
)

from .models import MAX_CREDENTIAL_ID_LENGTH

MAX_CREDENTIAL_BYTES = 12 * 1024
MAX_DEPTH = 8
MAX_NAME_LENGTH = 64
TRANSPORTS = ("usb", "nfc", "ble", "internal", "cable", "hybrid")


class CredentialField(JSONObjectField):
    """A ``PublicKeyCredential`` as its ``toJSON()`` returns it: the texts that are used."""

    default_error_messages = {
        "incomplete": _("Expected a passkey as the browser's toJSON() returns it."),
    }
    required_texts: tuple[str, ...] = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_bytes=MAX_CREDENTIAL_BYTES, max_depth=MAX_DEPTH, **kwargs)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        data = super().to_internal_value(data)
        response = data.get("response")
        texts = [data.get(name) for name in ("id", "rawId", "type")]
        if isinstance(response, dict):
            texts += [response.get(name) for name in ("clientDataJSON", *self.required_texts)]
            texts.append(response.get("userHandle") or "")
        if not isinstance(response, dict) or not all(isinstance(text, str) for text in texts):
            self.fail("incomplete")
        if not 0 < len(data["id"]) <= MAX_CREDENTIAL_ID_LENGTH:
            self.fail("incomplete")
        return {**data, "response": {**response, "transports": _transports(response)}}


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": {},
        "description": "The `toJSON()` of `navigator.credentials.get()`.",
    }
)
class AssertionField(CredentialField):
    """The response of an authenticator to a sign-in."""

    required_texts = ("authenticatorData", "signature")


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": {},
        "description": "The `toJSON()` of `navigator.credentials.create()`.",
    }
)
class AttestationField(CredentialField):
    """The response of an authenticator to a registration."""

    required_texts = ("attestationObject",)


class PasskeyNameField(StrictCharField):
    """A name that its user gives a passkey."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=MAX_NAME_LENGTH, **kwargs)


class PasskeySerializer(AttributesSerializer):
    """A passkey of the caller."""

    id = serializers.CharField(source="pk")
    name = serializers.CharField()
    created_at = UtcDateTimeField()
    last_used_at = UtcDateTimeField(allow_null=True)
    synced = serializers.BooleanField(source="is_synced")

    @classmethod
    def read(cls, instance: Any) -> dict[str, Any]:
        return {**super().read(instance), "id": str(instance.pk)}


class PasskeyRegisteredSerializer(PasskeySerializer):
    """A new passkey, with recovery codes if it is the first second factor; only this once."""

    recovery_codes = serializers.ListField(child=serializers.CharField())


class PasskeyChangesSerializer(serializers.Serializer[Any]):
    """The new name of a passkey."""

    name = PasskeyNameField()


class RegistrationOptionsRequestSerializer(serializers.Serializer[Any]):
    """The password, unless the sign-in is recent."""

    password = PasswordField(required=False)


class NewPasskeySerializer(serializers.Serializer[Any]):
    """The authenticator's response to the options of a registration."""

    passkey = AttestationField()
    name = PasskeyNameField(required=False)


class SignInOptionsRequestSerializer(serializers.Serializer[Any]):
    """The token of the password step, to use a passkey as the second factor."""

    mfa_token = TokenField(required=False)


class SignInWithPasskeySerializer(serializers.Serializer[Any]):
    """The authenticator's response to the options of a sign-in."""

    passkey = AssertionField()


class PasskeyOptionsSerializer(serializers.Serializer[Any]):
    """Options for the browser.

    Pass ``publicKey`` to ``PublicKeyCredential.parseCreationOptionsFromJSON()`` or
    ``parseRequestOptionsFromJSON()``, then to ``navigator.credentials``.
    """

    publicKey = serializers.DictField()


def _transports(response: dict[str, Any]) -> list[str]:
    given = response.get("transports")
    known = given if isinstance(given, list) else []
    return [name for name in TRANSPORTS if name in known]
