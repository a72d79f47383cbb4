"""The admin site's dashboard page and its downloads."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from myometrics_core.db import read_from_replica

from ..filters import Filters
from ..selectors import report_get
from ..serializers import ReportQuerySerializer
from .page import csv_text, dashboard_make, filter_choices

__all__ = ["FORMATS", "dashboard_page", "download"]

FORMATS: Final = ("csv", "json")
SPANS: Final = (7, 30, 90, 365)


def dashboard_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Render the dashboard for ``days`` and filters of the query; 30 days if it is invalid."""
    query, errors = _query(request)
    filters: Filters = query["filters"]
    with read_from_replica(user=request.user):
        report = report_get(**query)
        choices = filter_choices(filters)
    chosen = {name: value for name, value in vars(filters).items() if value is not None}
    return TemplateResponse(
        request,
        "myometrics_analytics/dashboard.html",
        {
            **context,
            "title": _("Analytics"),
            "errors": errors,
            "dashboard": dashboard_make(report, days=query["days"]),
            "days": query["days"],
            "spans": [(days, urlencode({"days": days, **chosen})) for days in SPANS],
            "filters": choices,
            "is_filtered": bool(filters),
            "query": urlencode({"days": query["days"], **chosen}),
        },
        status=400 if errors else 200,
    )


def download(request: HttpRequest, file_format: str) -> HttpResponse:
    """Return the numbers of the page as a file, ``csv`` or ``json``."""
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
