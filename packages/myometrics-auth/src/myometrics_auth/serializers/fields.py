"""Serializer fields shared by several requests and responses."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from myometrics_auth.email_addresses import MAX_EMAIL_LENGTH, checked_email, clean_email
from myometrics_core.api import StrictCharField

__all__ = ["EmailAddressField", "PasswordField", "TokenField"]

MAX_PASSWORD_LENGTH = 256


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
