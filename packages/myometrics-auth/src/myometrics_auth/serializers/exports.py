"""An export of one's data."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from rest_framework import serializers

from myometrics_core.export_deliveries import export_deliveries
from myometrics_core.export_files import EXPORT_FORMATS

__all__ = ["ExportQuerySerializer"]


class ExportQuerySerializer(serializers.Serializer[Any]):
    """Specification: "GET /users/me/export/", query parameters.

    ``delivery`` names another way than the answer itself, where an installed package has one.
    """

    format = serializers.ChoiceField(choices=sorted(EXPORT_FORMATS), default="csv")
    delivery = serializers.CharField(required=False, help_text="Such as `email`: answers 202.")

    def validate_delivery(self, value: str) -> str:
        """Refuse what no installed package offers."""
        if value not in export_deliveries():
            raise serializers.ValidationError(
                _('"%(value)s" is not a way to deliver an export.') % {"value": value}
            )
        return value
