"""Serializers of ``POST /emergency-access/``."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from myometrics_core.api import RequestSerializer, StrictCharField, UtcDateTimeField

from ..log.models import OPTIONAL_LENGTHS
from .emergency_access import MAX_REASON_LENGTH


class _NumberField(serializers.IntegerField):
    """A JSON number; rejects text such as ``1_0``."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class EmergencyAccessRequestSerializer(RequestSerializer):
    """The body of the request."""

    subject = StrictCharField(max_length=OPTIONAL_LENGTHS["data_subject"])
    reason = StrictCharField(max_length=MAX_REASON_LENGTH)
    minutes = _NumberField(min_value=1)


class EmergencyAccessSerializer(serializers.Serializer[Any]):
    """The access that was granted."""

    id = serializers.IntegerField()
    subject = serializers.CharField(source="data_subject")
    granted_at = UtcDateTimeField()
    expires_at = UtcDateTimeField()
