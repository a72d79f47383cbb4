"""Serializers for queries and, for the API schema only, responses (built by selectors)."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext as _
from rest_framework import serializers

from myometrics_core.api import RequestSerializer

from .conf import analytics_settings
from .filters import Filters, user_field
from .models import MAX_DIAGNOSIS_LENGTH, Status
from .periods import MAX_DAYS

FilterField = partial(serializers.CharField, required=False, allow_blank=True)


class DaysField(serializers.IntegerField):
    """Number of days in ASCII digits; rejects ``1_0``, ``+7`` and digits of other scripts."""

    def to_internal_value(self, data: Any) -> int:
        if not (isinstance(data, str) and data.isascii() and data.isdigit()):
            self.fail("invalid")
        return super().to_internal_value(data)


class ReportQuerySerializer(RequestSerializer):
    """The query of ``GET /analytics/``; an empty filter is ignored."""

    days = DaysField(
        min_value=1,
        max_value=MAX_DAYS,
        default=30,
        help_text="UTC days, of which today is the last.",
    )
    clinic = FilterField(max_length=200, help_text="Users of this clinic only.")
    role = FilterField(max_length=200, help_text="Users with this role only.")
    diagnosis = FilterField(max_length=MAX_DIAGNOSIS_LENGTH, help_text="This diagnosis only.")

    def validate_clinic(self, clinic: str) -> str:
        return _filter_value(clinic, analytics_settings.CLINIC_FIELD)

    def validate_role(self, role: str) -> str:
        return _filter_value(role, analytics_settings.ROLE_FIELD)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return a dict with ``days`` and ``filters``."""
        values = super().to_internal_value(data)
        names = ("clinic", "role", "diagnosis")
        filters = Filters(**{name: values.get(name) or None for name in names})
        return {"days": values["days"], "filters": filters}


class DailyUploadsSerializer(serializers.Serializer[Any]):
    """Uploads of one UTC day."""

    date = serializers.DateField()
    count = serializers.IntegerField(min_value=0)


class WeeklyUploadsSerializer(serializers.Serializer[Any]):
    """Uploads of seven days, counted back from today; ``Week 1`` is the oldest, maybe shorter."""

    week = serializers.CharField()
    count = serializers.IntegerField(min_value=0)


class MonthlyUploadsSerializer(serializers.Serializer[Any]):
    """Uploads of one whole calendar month."""

    month = serializers.RegexField(r"^\d{4}-\d{2}$")
    count = serializers.IntegerField(min_value=0)


class UserActivitySerializer(serializers.Serializer[Any]):
    """Uploads by day, by week and by month, oldest first."""

    daily_uploads = DailyUploadsSerializer(many=True)
    weekly_uploads = WeeklyUploadsSerializer(many=True)
    monthly_uploads = MonthlyUploadsSerializer(many=True)


class DiagnosisTrendSerializer(serializers.Serializer[Any]):
    """One diagnosis in the span, compared with the previous span of equal length."""

    diagnosis = serializers.CharField()
    count = serializers.IntegerField(min_value=1)
    trend = serializers.ChoiceField(choices=["up", "down", "stable"])
    percentage_change = serializers.FloatField()


class UploadHealthSerializer(serializers.Serializer[Any]):
    """Rates in per cent, times in seconds."""

    active_users = serializers.IntegerField(min_value=0)
    total_uploads = serializers.IntegerField(min_value=0)
    success_rate = serializers.FloatField(min_value=0, max_value=100)
    average_processing_time = serializers.FloatField(min_value=0)


class ReportSerializer(serializers.Serializer[Any]):
    """The response of ``GET /analytics/``."""

    user_activity = UserActivitySerializer()
    diagnosis_trends = DiagnosisTrendSerializer(many=True)
    system_health = UploadHealthSerializer()


class RecentUploadSerializer(serializers.Serializer[Any]):
    """One of a user's latest uploads."""

    id = serializers.CharField()
    filename = serializers.CharField(allow_blank=True)
    timestamp = serializers.DateTimeField()
    status = serializers.ChoiceField(choices=Status.choices)


class ActivitySerializer(serializers.Serializer[Any]):
    """The response of ``GET /users/me/activity/``."""

    uploads_today = serializers.IntegerField(min_value=0)
    uploads_this_week = serializers.IntegerField(min_value=0)
    uploads_this_month = serializers.IntegerField(min_value=0)
    last_login = serializers.DateTimeField(allow_null=True)
    recent_uploads = RecentUploadSerializer(many=True)


def _filter_value(value: str, field_name: str) -> str:
    """Return ``value``; raise an error if the user model has no such field or choice."""
    field = user_field(field_name)
    if value and field is None:
        raise serializers.ValidationError(_("The users of this site have no such attribute."))
    if value and field is not None and field.choices:
        known = [str(choice) for choice, _ in field.flatchoices]
        if value not in known:
            raise serializers.ValidationError(_("Must be one of: %s.") % ", ".join(known))
    if value and field is not None:
        _check_type(value, field)
    return value


def _check_type(value: str, field: models.Field[Any, Any]) -> None:
    """Raise an error if the column can't contain ``value``, such as a name for a foreign key."""
    column: Any = getattr(field, "target_field", field)
    try:
        stored = column.to_python(value)
        if isinstance(column, models.IntegerField):
            column.run_validators(stored)  # the range, which Django 4.2 doesn't have for SQLite
            MinValueValidator(-(2**63))(stored)
            MaxValueValidator(2**63 - 1)(stored)
    except ValidationError as error:
        raise serializers.ValidationError(error.messages) from None
