"""Request and response serializers of the endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from myometrics_core.api import StrictBooleanField

from .kinds import registered_kinds


class NotificationSwitchesSerializer(serializers.Serializer[Any]):
    """All switches, JSON booleans only: the specification's four, then those of the site's kinds.

    Specification: "GET /users/me/notifications/" and "PATCH /users/me/notifications/".
    """

    email_notifications = StrictBooleanField()

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Return the main switch and one field for each optional kind that is registered.

        A partial update has only the fields that its data names.
        """
        fields = super().get_fields()
        kinds = [kind for kind in registered_kinds() if kind.optional]
        data = getattr(self, "initial_data", None)
        if self.partial and isinstance(data, Mapping):
            kinds = [kind for kind in kinds if kind.name in data]
        for kind in kinds:
            fields[kind.name] = StrictBooleanField(help_text=str(kind.title))
        return fields
