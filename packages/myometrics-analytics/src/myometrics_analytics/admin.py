"""Admin pages of analytics: the dashboard, and read-only pages for facts and rollups.

Facts come from their sources and rollups from the facts, so neither is editable.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from myometrics_core.read_only_admin import InternalAdmin, ReadOnlyAdmin

from .dashboard.dashboard_admin import DashboardAdmin
from .models import (
    ClientReports,
    DailyRollup,
    Dashboard,
    DayRollup,
    LimitDecision,
    PendingChange,
    PullState,
    RebuildCheckpoint,
    RollupState,
    Upload,
    UploadReport,
    UserRollup,
)
from .pull.pulling import pull_status


@admin.register(Upload)
class UploadAdmin(ReadOnlyAdmin):
    """Uploads, latest first; searchable by upload id or by the user's sign-in name."""

    list_display = (
        *("upload_id", "filename", "user", "status", "diagnosis", "uploaded_at"),
        *("client_only", "over_limit"),
    )
    list_filter = ("status", "client_only", "over_limit")
    list_select_related = ("user",)
    ordering = ("-day", "-uploaded_at")
    search_fields = ("upload_id",)
    search_help_text = _("A whole upload id, or the beginning of a user's sign-in name.")
    fields = (
        *("user", "upload_id", "filename", "uploaded_at", "status", "diagnosis"),
        *("confidence", "file_size", "seconds", "client_only", "over_limit"),
    )
    readonly_fields = ("seconds",)

    @admin.display(description=_("processing time (s)"))
    def seconds(self, upload: Upload) -> float | None:
        return upload.processing_time

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by exact upload id or by prefix of the sign-in name, so that indexes are used."""
        if not search_term:
            return queryset, False
        user_model = get_user_model()
        names = {f"{user_model.USERNAME_FIELD}__startswith": search_term}
        user_ids = list(user_model._base_manager.filter(**names).values_list("pk", flat=True)[:50])
        return queryset.filter(Q(upload_id=search_term) | Q(user_id__in=user_ids)), False


@admin.register(PullState)
class PullStateAdmin(InternalAdmin):
    """The last pulls, and the status of their job."""

    list_display = ("succeeded_at", "due_at", "failures", "last_error", "rows", "bad_rows")
    readonly_fields = ("due_at", "failures", "last_error")

    @admin.display(description=_("due at"))
    def due_at(self, state: PullState) -> datetime | None:
        return pull_status().due_at

    @admin.display(description=_("failures in a row"))
    def failures(self, state: PullState) -> int:
        return pull_status().failures

    @admin.display(description=_("last error"))
    def last_error(self, state: PullState) -> str:
        return pull_status().last_error


admin.site.register(Dashboard, DashboardAdmin)
admin.site.register(
    DayRollup,
    InternalAdmin,
    list_display=("day", "uploads", "completed", "failed", "uploaders"),
    ordering=("-day",),
)
admin.site.register(
    DailyRollup,
    InternalAdmin,
    list_display=("day", "diagnosis", "status", "uploads"),
    list_filter=("status",),
    search_fields=("diagnosis__iexact",),
    search_help_text=_("A whole diagnosis."),
    ordering=("-day", "diagnosis", "status"),
)
admin.site.register(
    UserRollup,
    InternalAdmin,
    list_display=("user", "uploads", "last_day"),
    list_select_related=("user",),
    ordering=("-last_day",),
)
admin.site.register(
    PendingChange,
    InternalAdmin,
    list_display=("day", "diagnosis", "status", "uploads"),
    ordering=("-pk",),
)
admin.site.register(
    ClientReports,
    InternalAdmin,
    list_display=("user", "day", "uploads"),
    list_select_related=("user",),
    ordering=("-pk",),
)
admin.site.register(
    LimitDecision,
    InternalAdmin,
    list_display=("upload_id", "user", "over_limit"),
    list_select_related=("user",),
    ordering=("pk",),
)
admin.site.register(
    UploadReport,
    InternalAdmin,
    list_display=("upload_id", "user", "ownership", "uploaded_at", "status"),
    list_select_related=("user",),
    search_fields=("upload_id__exact",),
    ordering=("-pk",),
)
admin.site.register(
    RollupState,
    InternalAdmin,
    list_display=("uploads", "folded_at", "checked_at", "repairs"),
)
admin.site.register(
    RebuildCheckpoint, InternalAdmin, list_display=("source", "reached_at", "activities")
)
