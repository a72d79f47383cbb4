"""Shapes of ``/audit-logs/``. Specification: "Audit Log Endpoints"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from django.utils.translation import gettext as _
from rest_framework import serializers

from myometrics_core.fields import JSONObjectField, StrictCharField, UtcDateTimeField
from myometrics_core.pagination import PageSerializer
from myometrics_core.users import parse_user_id

from .canonical import DETAILS_MAX_BYTES

__all__ = [
    "EntryCreateSerializer",
    "EntryPageSerializer",
    "EntryQuerySerializer",
    "EntrySerializer",
    "validated_filters",
]

DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class EntryCreateSerializer(serializers.Serializer[Any]):
    """The body of ``POST /audit-logs/``; what the server sets is ignored."""

    action = StrictCharField(max_length=50)
    resource_type = StrictCharField(max_length=50)
    resource_id = StrictCharField(max_length=100)
    details = JSONObjectField(max_bytes=DETAILS_MAX_BYTES, required=False, default=dict)


class EntrySerializer(serializers.Serializer[Any]):
    """An entry as the API shows it (for the schema: answers are built without it)."""

    id = serializers.IntegerField()
    user_id = serializers.IntegerField(allow_null=True)
    action = serializers.CharField()
    resource_type = serializers.CharField()
    resource_id = serializers.CharField()
    timestamp = UtcDateTimeField()
    ip_address = serializers.IPAddressField(allow_null=True)
    user_agent = serializers.CharField(allow_blank=True)
    details = serializers.DictField()


class EntryPageSerializer(PageSerializer):
    """A page of entries, newest first."""

    results = EntrySerializer(many=True)


class _UserIdField(serializers.CharField):
    """The id of a user, there or not."""

    def to_internal_value(self, data: Any) -> Any:
        text = super().to_internal_value(data)
        try:
            return parse_user_id(text)
        except ValueError:
            raise serializers.ValidationError(_("Not the id of any user.")) from None


class _DayField(serializers.DateField):
    """A day as ``YYYY-MM-DD`` and in no other way."""

    def to_internal_value(self, value: Any) -> date:
        if not DAY.fullmatch(str(value)):
            self.fail("invalid", format="YYYY-MM-DD")
        return super().to_internal_value(value)


class EntryQuerySerializer(serializers.Serializer[Any]):
    """The filters of ``GET /audit-logs/``; an empty one filters nothing."""

    user_id = _UserIdField(required=False, help_text="Filter by user ID")
    action = StrictCharField(required=False, max_length=50, help_text="Filter by action type")
    resource_type = StrictCharField(
        required=False, max_length=50, help_text="Filter by resource type"
    )
    start_date = _DayField(required=False, help_text="First UTC day (YYYY-MM-DD)")
    end_date = _DayField(required=False, help_text="Last UTC day, included (YYYY-MM-DD)")


# Made once: a serializer copies its fields for each request, which costs more than the check.
_FILTERS = dict(EntryQuerySerializer().fields)


def validated_filters(query: Mapping[str, str]) -> dict[str, Any]:
    """The filters in a query string, checked as ``EntryQuerySerializer`` says.

    Raises ``ValidationError`` with the problems by parameter.
    """
    filters: dict[str, Any] = {}
    problems: dict[str, Any] = {}
    for name, field in _FILTERS.items():
        if text := query.get(name):
            try:
                filters[name] = field.run_validation(text)
            except serializers.ValidationError as error:
                problems[name] = error.detail
    start, end = filters.get("start_date"), filters.get("end_date")
    if start and end and start > end:
        problems["start_date"] = ["Must not be after end_date."]
    if problems:
        raise serializers.ValidationError(problems)
    return filters
