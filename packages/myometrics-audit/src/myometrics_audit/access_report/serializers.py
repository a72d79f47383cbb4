"""Serializers of ``/audit-logs/access-report/``."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from myometrics_core.api import PageSerializer, UserIdField, UtcDateTimeField

from ..listing.serializers import EntryQuerySerializer

FORMATS = ("json", "csv", "fhir")
MAX_ID = 2**63 - 1


class ReportQuerySerializer(EntryQuerySerializer):
    """The parameters of an access report; empty values are ignored."""

    # Of the log's filters, only those of a report.
    user_id = action = resource_type = resource_id = None  # type: ignore[assignment]
    format = serializers.ChoiceField(
        choices=FORMATS, required=False, default="json", help_text="A page, or a whole file"
    )
    max_id = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_ID,
        help_text="Leave out newer entries; the links between pages set it",
    )


class ReportRowSerializer(serializers.Serializer[Any]):
    """An access, in the report. For the schema only."""

    id = serializers.IntegerField()
    timestamp = UtcDateTimeField()
    who = serializers.CharField(
        allow_blank=True, help_text="Name or role of the user; a pseudonym after their deletion"
    )
    user_id = UserIdField(allow_null=True, help_text="Null in the report that data subjects read")
    action = serializers.CharField()
    resource_type = serializers.CharField()
    resource_id = serializers.CharField()
    purpose = serializers.CharField(allow_blank=True)
    legal_basis = serializers.CharField(allow_blank=True)
    origin = serializers.CharField(allow_null=True, help_text="client, server or import")


class ReportPageSerializer(PageSerializer):
    """A page of an access report, newest first."""

    results = ReportRowSerializer(many=True)
