"""The admin site's dashboard page and its downloads."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from myometrics_core.db import read_from_replica
from myometrics_core.read_only_admin import ReadOnlyAdmin
from myometrics_core.users import is_administrator

from ..filters import Filters
from ..selectors import report_get
from ..serializers import ReportQuerySerializer
from .page import csv_text, dashboard_context, filter_choices

SPANS: Final = (7, 30, 90, 365)


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
            for file_format in ("csv", "json")
        ]
        return [*downloads, *super().get_urls()]

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return is_administrator(request.user) or super().has_view_permission(request, obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Render the dashboard for ``days`` and filters of the query; 30 days if it is invalid."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        query, errors = _query(request)
        days, filters = query["days"], query["filters"]
        with read_from_replica(user=request.user):
            report = report_get(**query)
            choices = filter_choices(filters)
        chosen = {name: value for name, value in vars(filters).items() if value is not None}
        context = {
            **self.admin_site.each_context(request),
            **(extra_context or {}),
            "title": _("Analytics"),
            "errors": errors,
            "dashboard": dashboard_context(report, days=days),
            "days": days,
            "spans": [(span, urlencode({"days": span, **chosen})) for span in SPANS],
            "filters": choices,
            "is_filtered": bool(filters),
            "query": urlencode({"days": days, **chosen}),
        }
        template, status = "myometrics_analytics/dashboard.html", 400 if errors else 200
        return TemplateResponse(request, template, context, status=status)

    def download(self, request: HttpRequest, file_format: str) -> HttpResponse:
        """Return the dashboard's numbers as a file, ``csv`` or ``json``."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        query, errors = _query(request)
        if errors:
            return JsonResponse({"problems": errors}, status=400)
        with read_from_replica(user=request.user):
            report = report_get(**query)
        response = (
            JsonResponse(report, json_dumps_params={"indent": 2})
            if file_format == "json"
            else HttpResponse(csv_text(report), content_type="text/csv; charset=utf-8")
        )
        name = f"analytics-{query['days']}-days.{file_format}"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response


def _query(request: HttpRequest) -> tuple[dict[str, Any], list[str]]:
    serializer = ReportQuerySerializer(data=request.GET.dict())
    if serializer.is_valid():
        return serializer.validated_data, []
    errors = [f"{name}: {error}" for name, found in serializer.errors.items() for error in found]
    return {"days": 30, "filters": Filters()}, errors
