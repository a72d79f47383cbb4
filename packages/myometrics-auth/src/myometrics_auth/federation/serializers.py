"""Shapes of the endpoints of identity providers."""

from __future__ import annotations

from typing import Any, Final

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from myometrics_auth.serializers import TokenField
from myometrics_core.api import (
    AttributesSerializer,
    RequestSerializer,
    StrictBooleanField,
    StrictCharField,
    UtcDateTimeField,
)

MAX_URL_LENGTH: Final = 2000
MAX_SECRET_LENGTH: Final = 255
MAX_CODE_LENGTH: Final = 4096


class ProviderSerializer(serializers.Serializer[Any]):
    """An identity provider, for the button that signs in with it."""

    slug = serializers.CharField()
    name = serializers.CharField()


class AuthorizeSerializer(RequestSerializer):
    """The page of the front end to which the provider redirects.

    With `reauthenticate` the user has to sign in at the provider again.
    """

    redirect_uri = StrictCharField(max_length=MAX_URL_LENGTH)
    reauthenticate = StrictBooleanField(default=False)


class AuthorizationSerializer(serializers.Serializer[Any]):
    """Where to send the user, and the secret that ``callback/`` needs."""

    authorization_url = serializers.URLField()
    flow = serializers.CharField()


class CallbackSerializer(RequestSerializer):
    """What the provider has sent to the front end, and the secret of ``authorize/``."""

    code = StrictCharField(max_length=MAX_CODE_LENGTH, trim_whitespace=False)
    state = StrictCharField(max_length=MAX_SECRET_LENGTH, trim_whitespace=False)
    flow = StrictCharField(max_length=MAX_SECRET_LENGTH, trim_whitespace=False)


class ProviderTokenSerializer(RequestSerializer):
    """A token of the provider: exactly one of the two."""

    id_token = TokenField(required=False)
    access_token = TokenField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs) != 1:
            problem = _("Send either id_token or access_token.")
            raise serializers.ValidationError({"id_token": [problem]})
        return attrs


class LogoutTokenSerializer(RequestSerializer):
    """The form that the provider sends (OpenID Connect Back-Channel Logout 1.0)."""

    logout_token = TokenField()


class IdentityLinkSerializer(RequestSerializer):
    """An ID token of the account to link."""

    provider = StrictCharField(max_length=50)
    id_token = TokenField()


class IdentitySerializer(AttributesSerializer):
    """An account at an identity provider that signs the caller in."""

    id = serializers.IntegerField(source="pk")
    provider = serializers.CharField()
    email = serializers.CharField(help_text="Verified by the provider; empty without one.")
    linked_at = UtcDateTimeField(source="created_at")
