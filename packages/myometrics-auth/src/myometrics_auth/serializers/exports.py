"""Query parameters of a data export."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from rest_framework import serializers

from myometrics_core.personal_data import EXPORT_FORMATS, export_deliveries

__all__ = ["ExportQuerySerializer"]


class ExportQuerySerializer(serializers.Serializer[Any]):
    """Specification: "GET /users/me/export/", query parameters.

    ``delivery`` selects a delivery method of an installed package instead of the response.
    """

    format = serializers.ChoiceField(choices=sorted(EXPORT_FORMATS), default="csv")
    delivery = serializers.CharField(required=False, help_text="Such as `email`: answers 202.")

    def validate_delivery(self, value: str) -> str:
        """Reject delivery methods that no installed package offers."""
        if value not in export_deliveries():
            raise serializers.ValidationError(
                _('"%(value)s" is not a way to deliver an export.') % {"value": value}
            )
        return value
