"""Admin pages of analytics: the dashboard, and read-only pages for facts and rollups.

Facts come from their sources and rollups from the facts, so neither is editable.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _

from myometrics_core.read_only_admin import InternalAdmin, ReadOnlyAdmin
from myometrics_core.users import is_administrator

from .dashboard import page_views
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
    UserRollup,
)
from .pull.pulling import pull_status

__all__ = ["DashboardAdmin", "UploadAdmin"]


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


@admin.register(DayRollup)
class DayRollupAdmin(InternalAdmin):
    list_display = ("day", "uploads", "completed", "failed", "uploaders")
    ordering = ("-day",)


@admin.register(DailyRollup)
class DailyRollupAdmin(InternalAdmin):
    list_display = ("day", "diagnosis", "status", "uploads")
    list_filter = ("status",)
    search_fields = ("diagnosis__iexact",)
    search_help_text = _("A whole diagnosis.")
    ordering = ("-day", "diagnosis", "status")


@admin.register(UserRollup)
class UserRollupAdmin(InternalAdmin):
    list_display = ("user", "uploads", "last_day")
    list_select_related = ("user",)
    ordering = ("-last_day",)


@admin.register(PendingChange)
class PendingChangeAdmin(InternalAdmin):
    """Changes that the next fold will process."""

    list_display = ("day", "diagnosis", "status", "uploads")
    ordering = ("-pk",)


@admin.register(ClientReports)
class ClientReportsAdmin(InternalAdmin):
    """Number of new uploads that clients reported."""

    list_display = ("user", "day", "uploads")
    list_select_related = ("user",)
    ordering = ("-pk",)


@admin.register(LimitDecision)
class LimitDecisionAdmin(InternalAdmin):
    """Decisions kept during an unfinished rebuild."""

    list_display = ("upload_id", "user", "over_limit")
    list_select_related = ("user",)
    ordering = ("pk",)


@admin.register(RollupState)
class RollupStateAdmin(InternalAdmin):
    list_display = ("uploads", "folded_at", "checked_at", "repairs")


@admin.register(PullState)
class PullStateAdmin(InternalAdmin):
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


@admin.register(RebuildCheckpoint)
class RebuildCheckpointAdmin(InternalAdmin):
    list_display = ("source", "reached_at", "activities")


@admin.register(Dashboard)
class DashboardAdmin(ReadOnlyAdmin):
    """The dashboard and its downloads."""

    def get_urls(self) -> list[URLPattern]:
        downloads = [
            path(
                f"download.{file_format}",
                self.admin_site.admin_view(self.download),
                {"file_format": file_format},
                name=f"myometrics_analytics_dashboard_{file_format}",
            )
            for file_format in page_views.FORMATS
        ]
        return [*downloads, *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Render the dashboard for the ``days`` and filters of the query string."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {**self.admin_site.each_context(request), **(extra_context or {})}
        return page_views.dashboard_page(request, context)

    def download(self, request: HttpRequest, file_format: str) -> HttpResponse:
        """Return the dashboard's numbers as CSV or JSON."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return page_views.download(request, file_format)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Allow administrators (``IS_ADMINISTRATOR``) and users with the permission."""
        return is_administrator(request.user) or super().has_view_permission(request, obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)
