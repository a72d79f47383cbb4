"""Admin pages of analytics: the dashboard, and read-only pages for facts and rollups.

Facts come from their sources and rollups from the facts, so neither is editable.
"""

from __future__ import annotations

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

from . import dashboard_views
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
    search_help_text = _("A whole upload id, or the beginning of a person's sign-in name.")
    fields = (
        *("user", "upload_id", "filename", "uploaded_at", "status", "diagnosis"),
        *("confidence", "file_size", "seconds", "client_only", "over_limit"),
    )
    readonly_fields = ("seconds",)

    @admin.display(description=_("processing time (s)"))
    def seconds(self, upload: Upload) -> float | None:
        """Processing time in seconds."""
        return upload.processing_time

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by exact upload id or by prefix of the sign-in name, so that indexes are used."""
        if not search_term:
            return queryset, False
        user_model = get_user_model()
        names = {f"{user_model.USERNAME_FIELD}__startswith": search_term}
        people = list(user_model._base_manager.filter(**names).values_list("pk", flat=True)[:50])
        return queryset.filter(Q(upload_id=search_term) | Q(user_id__in=people)), False


@admin.register(DayRollup)
class DayRollupAdmin(InternalAdmin):
    """One row per day."""

    list_display = ("day", "uploads", "completed", "failed", "uploaders")
    ordering = ("-day",)


@admin.register(DailyRollup)
class DailyRollupAdmin(InternalAdmin):
    """One row per day, diagnosis and status."""

    list_display = ("day", "diagnosis", "status", "uploads")
    list_filter = ("status",)
    search_fields = ("diagnosis__iexact",)
    search_help_text = _("A whole diagnosis.")
    ordering = ("-day", "diagnosis", "status")


@admin.register(UserRollup)
class UserRollupAdmin(InternalAdmin):
    """One row per user."""

    list_display = ("user", "uploads", "last_day")
    list_select_related = ("user",)
    ordering = ("-last_day",)


@admin.register(PendingChange)
class PendingChangeAdmin(InternalAdmin):
    """Changes that the next fold will process."""

    list_display = ("day", "diagnosis", "status", "uploads")
    ordering = ("-pk",)


@admin.register(ClientReports)
class ClientReportsAdmin(ReadOnlyAdmin):
    """Number of new uploads that clients reported."""

    list_display = ("user", "day", "uploads")
    list_select_related = ("user",)
    ordering = ("-pk",)


@admin.register(LimitDecision)
class LimitDecisionAdmin(ReadOnlyAdmin):
    """Decisions kept during an unfinished rebuild."""

    list_display = ("upload_id", "user", "over_limit")
    list_select_related = ("user",)
    ordering = ("pk",)


@admin.register(RollupState)
class RollupStateAdmin(InternalAdmin):
    """State of folding and of the self-check."""

    list_display = ("uploads", "folded_at", "checked_at", "repairs")


@admin.register(PullState)
class PullStateAdmin(InternalAdmin):
    """State of image service pulls."""

    list_display = ("succeeded_at", "due_at", "failures", "last_error", "rows", "bad_rows")


@admin.register(RebuildCheckpoint)
class RebuildCheckpointAdmin(InternalAdmin):
    """Progress of an unfinished rebuild."""

    list_display = ("source", "reached_at", "activities")


@admin.register(Dashboard)
class DashboardAdmin(ReadOnlyAdmin):
    """The dashboard and its downloads."""

    def get_urls(self) -> list[URLPattern]:
        """Add the URLs of the downloads."""
        pages = ((f"download.{name}", name) for name in dashboard_views.FORMATS)
        downloads = [
            path(
                file_name,
                self.admin_site.admin_view(self.download),
                {"file_format": name},
                name=f"myometrics_analytics_dashboard_{name}",
            )
            for file_name, name in pages
        ]
        return [*downloads, *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Render the dashboard for the ``days`` and filters of the query string."""
        self._require_view(request)
        context = {**self.admin_site.each_context(request), **(extra_context or {})}
        return dashboard_views.page(request, context)

    def download(self, request: HttpRequest, file_format: str) -> HttpResponse:
        """Return the dashboard's numbers as CSV or JSON."""
        self._require_view(request)
        return dashboard_views.download(request, file_format)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Allow administrators (``IS_ADMINISTRATOR``) and users with the permission."""
        return is_administrator(request.user) or super().has_view_permission(request, obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """List the dashboard in the index for users who may view it."""
        return self.has_view_permission(request)

    def _require_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied
