"""The access report in the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from myometrics_core.api import (
    ApiView,
    CallerDeleted,
    PagePagination,
    PageQuerySerializer,
    extend_schema,
)
from myometrics_core.db import read_from_replica
from myometrics_core.http import download_response

from ..listing import Selection
from ..log.services import ActorDeleted
from .files import FILE_NAMES, report_chunks
from .permissions import CanViewAccessReports, can_view_all_reports, own_data_subject
from .report import report_deny, report_open, report_page, row_json
from .serializers import ReportPageSerializer, ReportQuerySerializer


class ReportPagination(PagePagination):
    """Pages of a report; their links leave out entries that are newer than the first page."""

    def __init__(self, *, for_subject: bool) -> None:
        self._for_subject = for_subject

    def count(self, queryset: Any) -> int:
        offset = (self.number - 1) * self.size
        total, self._rows = report_page(queryset, offset, self.size, for_subject=self._for_subject)
        self.url = replace_query_param(self.url, "max_id", queryset.max_id)
        return total

    def rows(self, queryset: Any, offset: int, limit: int) -> Sequence[Any]:
        return self._rows


class AccessReportView(ApiView):
    """Who opened the data of one data subject. Reading it is itself an entry."""

    http_method_names = ["get", "head"]
    permission_classes = (CanViewAccessReports,)

    @extend_schema(
        operation_id="audit_logs_access_report",
        tags=["audit"],
        parameters=[ReportQuerySerializer, PageQuerySerializer],
        responses={
            (200, "application/json"): ReportPageSerializer,
            (200, "application/octet-stream"): OpenApiTypes.BINARY,
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Return a page of accesses, newest first, or the whole report as a file.

        `format` is `json` (a page), `csv`, or `fhir` (a Bundle of AuditEvents). Needs the
        permission `view_access_report`; a data subject with an account reads only their own report,
        and may omit `data_subject`. Every request leaves an entry `access_report_viewed`.
        """
        query = self.validated_query(ReportQuerySerializer)
        file_format = query.pop("format")
        subject, for_subject = _subject(request, query.get("data_subject"))
        selection = Selection(**{**query, "data_subject": subject})
        pages = ReportPagination(for_subject=for_subject)
        try:
            selection = report_open(selection, user=self.user, request=request, format=file_format)
        except ActorDeleted:
            raise CallerDeleted() from None
        if file_format != "json":
            chunks = report_chunks(selection, file_format, for_subject=for_subject)
            return download_response(request, chunks, FILE_NAMES[file_format])
        with read_from_replica(user=request.user):
            rows = pages.paginate(selection, request)  # type: ignore[arg-type]
        return pages.response([row_json(row) for row in rows])

    def handle_exception(self, exc: Exception) -> Response:
        """Record a refusal."""
        if isinstance(exc, exceptions.PermissionDenied):
            subject = self.request.query_params.get("data_subject", "")
            report_deny(subject, user=self.request.user, request=self.request)
        return super().handle_exception(exc)


def _subject(request: Request, wanted: str | None) -> tuple[str, bool]:
    """Return the data subject, and whether the caller is this data subject."""
    own = own_data_subject(request.user)
    subject = wanted or own
    if subject is not None and subject == own:
        return subject, True
    if not can_view_all_reports(request.user):
        raise exceptions.PermissionDenied(_("You may read only the report about yourself."))
    if subject is None:
        raise exceptions.ValidationError({"data_subject": [_("Name the data subject.")]})
    return subject, False
