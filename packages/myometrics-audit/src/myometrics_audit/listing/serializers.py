"""Serializers of ``/audit-logs/``. Specification: "Audit Log Endpoints"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from django.utils.translation import gettext as _
from rest_framework import ISO_8601, serializers

from myometrics_core.api import (
    JSONObjectField,
    PageSerializer,
    RequestSerializer,
    StrictCharField,
    UserIdField,
    UtcDateTimeField,
)
from myometrics_core.users import parse_user_id

from ..log.models import MAX_LENGTHS, OPTIONAL_LENGTHS
from ..signing.canonical import DETAILS_MAX_BYTES

DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class EntryCreateSerializer(RequestSerializer):
    """The body of ``POST /audit-logs/``; fields that the server sets are ignored."""

    action = StrictCharField(max_length=MAX_LENGTHS["action"])
    resource_type = StrictCharField(max_length=MAX_LENGTHS["resource_type"])
    resource_id = StrictCharField(max_length=MAX_LENGTHS["resource_id"])
    details = JSONObjectField(max_bytes=DETAILS_MAX_BYTES, required=False, default=dict)


class EntrySerializer(serializers.Serializer[Any]):
    """An entry in the API. For the schema only: responses are built without it."""

    id = serializers.IntegerField()
    user_id = UserIdField(allow_null=True)
    action = serializers.CharField()
    resource_type = serializers.CharField()
    resource_id = serializers.CharField()
    timestamp = UtcDateTimeField()
    ip_address = serializers.IPAddressField(allow_null=True)
    user_agent = serializers.CharField(allow_blank=True)
    details = serializers.DictField()


class EntryDetailSerializer(EntrySerializer):
    """A single entry: the list's keys and the origin (null for entries of earlier releases)."""

    origin = serializers.CharField(allow_null=True, help_text="client, server or import")


class EntryPageSerializer(PageSerializer):
    """A page of entries, newest first."""

    results = EntrySerializer(many=True)


class _UserIdField(serializers.CharField):
    """A user id; the user need not exist."""

    def to_internal_value(self, data: Any) -> Any:
        text = super().to_internal_value(data)
        try:
            return parse_user_id(text)
        except ValueError:
            raise serializers.ValidationError(_("Not the id of any user.")) from None


class _DayField(serializers.DateField):
    """A day, only in the format ``YYYY-MM-DD``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(input_formats=[ISO_8601], **kwargs)

    def to_internal_value(self, value: Any) -> date:
        if not DAY.fullmatch(str(value)):
            self.fail("invalid", format="YYYY-MM-DD")
        return super().to_internal_value(value)


class EntryQuerySerializer(RequestSerializer):
    """The filters of ``GET /audit-logs/`` and ``audit_export``; empty values are ignored.

    Each is a field of :class:`~myometrics_audit.listing.Selection` with the same name.
    """

    user_id = _UserIdField(required=False, help_text="Filter by user ID")
    action = StrictCharField(
        required=False, max_length=MAX_LENGTHS["action"], help_text="Filter by action type"
    )
    resource_type = StrictCharField(
        required=False, max_length=MAX_LENGTHS["resource_type"], help_text="Filter by resource type"
    )
    resource_id = StrictCharField(
        required=False, max_length=MAX_LENGTHS["resource_id"], help_text="Filter by resource ID"
    )
    data_subject = StrictCharField(
        required=False,
        max_length=OPTIONAL_LENGTHS["data_subject"],
        trim_whitespace=False,
        help_text="Filter by the data subject's ID",
    )
    start_date = _DayField(required=False, help_text="First UTC day (YYYY-MM-DD)")
    end_date = _DayField(required=False, help_text="Last UTC day, included (YYYY-MM-DD)")

    def to_internal_value(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Drop empty filters."""
        given = {name: value for name, value in data.items() if value not in (None, "")}
        filters: dict[str, Any] = super().to_internal_value(given)
        return filters

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Reject a start date after the end date."""
        start, end = attrs.get("start_date"), attrs.get("end_date")
        if start and end and start > end:
            raise serializers.ValidationError({"start_date": _("Must not be after end_date.")})
        return attrs
