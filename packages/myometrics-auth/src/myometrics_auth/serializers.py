"""Serializers of auth's requests and responses; they convert the specification's camelCase."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from myometrics_core.api import (
    AttributesSerializer,
    PageSerializer,
    RequestSerializer,
    StrictBooleanField,
    StrictCharField,
    UserIdField,
    UtcDateTimeField,
)
from myometrics_core.personal_data import EXPORT_FORMATS, export_deliveries

from .email_addresses import MAX_EMAIL_LENGTH, checked_email, clean_email
from .models import Role, Session
from .second_factor_kinds import registered_second_factors

MAX_PASSWORD_LENGTH = 256
MAX_CODE_LENGTH = 32
MAX_INVITATION_LENGTH = 1000


class PasswordField(StrictCharField):
    """A password as entered: not trimmed, at most 256 characters."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            max_length=MAX_PASSWORD_LENGTH, trim_whitespace=False, write_only=True, **kwargs
        )


class TokenField(StrictCharField):
    """Any non-empty text; services verify whether it is a valid token."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)
        self.validators = []


@extend_schema_field({"type": "string", "format": "email", "maxLength": MAX_EMAIL_LENGTH})
class EmailAddressField(StrictCharField):
    """An e-mail address, folded; with ``new``, homoglyphs are rejected."""

    def __init__(self, *, new: bool = False, **kwargs: Any) -> None:
        self.new = new
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if len(text) > MAX_EMAIL_LENGTH:
            raise serializers.ValidationError(
                _("Ensure this field has no more than 254 characters."), "max_length"
            )
        try:
            return clean_email(text) if self.new else checked_email(text)
        except DjangoValidationError as error:
            raise serializers.ValidationError(error.messages, error.code) from error


class DetailSerializer(serializers.Serializer[Any]):
    """A message to the user."""

    detail = serializers.CharField()


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
    invitation = StrictCharField(
        required=False,
        allow_blank=True,
        max_length=MAX_INVITATION_LENGTH,
        help_text="The token of an invitation, which sets role and clinic.",
    )


class InvitationChangesSerializer(RequestSerializer):
    """A new invitation."""

    email = EmailAddressField(new=True)
    role = serializers.ChoiceField(choices=Role.choices)
    clinicName = StrictCharField(
        source="clinic_name", max_length=100, required=False, allow_blank=True
    )


class InvitationSerializer(serializers.Serializer[Any]):
    """A pending invitation; an expired one can be sent again."""

    id = serializers.UUIDField()
    email = serializers.EmailField()
    role = serializers.ChoiceField(choices=Role.choices)
    clinicName = serializers.CharField(source="clinic_name")
    expiresAt = UtcDateTimeField(source="expires_at")


class InvitationPageSerializer(PageSerializer):
    """A page of invitations."""

    results = InvitationSerializer(many=True)


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


class RefreshedTokensSerializer(serializers.Serializer[Any]):
    """Specification: "POST /auth/token/refresh/", response; ``refresh`` replaces the sent token."""

    access = serializers.CharField()
    refresh = serializers.CharField(required=False)


class SessionSerializer(serializers.Serializer[Any]):
    """One live session of the caller."""

    id = serializers.UUIDField()
    device = serializers.CharField(source="user_agent")
    address = serializers.CharField(allow_null=True)
    first_seen = UtcDateTimeField(source="created_at")
    last_seen = UtcDateTimeField(source="last_seen_at")
    expires = UtcDateTimeField(source="expires_at")
    second_factor = serializers.BooleanField()
    current = serializers.SerializerMethodField()

    def get_current(self, session: Session) -> bool:
        return bool(session.pk == self.context.get("current"))


class SessionPageSerializer(PageSerializer):
    """A page of sessions."""

    results = SessionSerializer(many=True)


class ChangePasswordSerializer(serializers.Serializer[Any]):
    """Specification: "POST /auth/change-password/", request."""

    old_password = PasswordField()
    new_password = PasswordField()


class PasswordResetSerializer(serializers.Serializer[Any]):
    """Specification: "POST /auth/password-reset/", request."""

    email = EmailAddressField()


class VerifyEmailSerializer(PasswordResetSerializer):
    """An address to which a new link is mailed."""


class EmailChangeRequestSerializer(serializers.Serializer[Any]):
    """A new address; users without a password omit it."""

    email = EmailAddressField(new=True)
    password = PasswordField(required=False, default="")


class EmailChangeSerializer(serializers.Serializer[Any]):
    """A change of address in the export."""

    old = serializers.CharField(source="old_email")
    new = serializers.CharField(source="new_email")
    requested = UtcDateTimeField(source="requested_at")
    confirmed = UtcDateTimeField(source="confirmed_at", allow_null=True)


class PasswordResetConfirmSerializer(serializers.Serializer[Any]):
    """Request of the page that the mailed link opens."""

    uid = StrictCharField(max_length=255)
    token = StrictCharField(max_length=255)
    new_password = PasswordField()


@extend_schema_field({"type": "boolean", "enum": [True]})
class AlwaysTrueField(serializers.BooleanField):
    """A boolean that is always true where it is present."""


class SecondFactorRequiredSerializer(serializers.Serializer[Any]):
    """The response to a sign-in that needs a second factor."""

    mfa_required = AlwaysTrueField()
    mfa_token = serializers.CharField()


class SecondFactorSerializer(serializers.Serializer[Any]):
    """The second sign-in step: a code of the app or a recovery code.

    Instead of ``code``, the response of a registered second factor, by its name.
    """

    mfa_token = TokenField()
    code = StrictCharField(max_length=MAX_CODE_LENGTH)

    def get_fields(self) -> Any:
        fields = super().get_fields()
        for factor in registered_second_factors():
            fields[factor.name] = factor.field()
            fields["code"].required = False
        return fields

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        given = [name for name in attrs if name != "mfa_token"]
        if not given:
            required = serializers.Field.default_error_messages["required"]
            raise serializers.ValidationError({"code": [required]}, "required")
        if len(given) > 1:
            raise serializers.ValidationError({given[-1]: [_("Send only one second factor.")]})
        return attrs


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


class ExportQuerySerializer(serializers.Serializer[Any]):
    """Specification: "GET /users/me/export/", query parameters.

    ``delivery`` selects a delivery method of an installed package instead of the response.
    """

    format = serializers.ChoiceField(choices=sorted(EXPORT_FORMATS), default="csv")
    delivery = serializers.CharField(required=False, help_text="Such as `email`: answers 202.")

    def validate_delivery(self, value: str) -> str:
        if value not in export_deliveries():
            raise serializers.ValidationError(
                _('"%(value)s" is not a way to deliver an export.') % {"value": value}
            )
        return value
