"""The admin page of access reports, made to be printed."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from myometrics_core.db import read_from_replica
from myometrics_core.http import download_response
from myometrics_core.read_only_admin import ReadOnlyAdmin

from ..conf import audit_settings
from ..listing import Selection
from ..log.models import OPTIONAL_LENGTHS
from .files import FILE_NAMES, report_chunks
from .models import AccessReport
from .permissions import can_view_all_reports
from .report import report_deny, report_open, report_page
from .wording import action_words, data_words

MAX_ROWS: Final = 2000
"""Accesses on one page; a file has all."""


class ReportForm(forms.Form):
    """The data subject and the period of a report."""

    data_subject = forms.CharField(
        label=_("Patient or other person (ID)"),
        max_length=OPTIONAL_LENGTHS["data_subject"],
        strip=False,
    )
    start_date = forms.DateField(
        label=_("From"), required=False, widget=forms.DateInput({"type": "date"})
    )
    end_date = forms.DateField(
        label=_("To"), required=False, widget=forms.DateInput({"type": "date"})
    )
    for_subject = forms.BooleanField(
        label=_("For this person: show users as patients see them"), required=False, initial=True
    )

    def clean(self) -> dict[str, Any]:
        """Reject a start date after the end date."""
        cleaned: dict[str, Any] = super().clean() or {}
        start, end = cleaned.get("start_date"), cleaned.get("end_date")
        if start and end and start > end:
            self.add_error("start_date", _("Must not be after the end of the period."))
        return cleaned

    @property
    def selection(self) -> Selection:
        """The entries of the valid form's report."""
        names = ("data_subject", "start_date", "end_date")
        return Selection(**{name: self.cleaned_data[name] for name in names})


@admin.register(AccessReport)
class AccessReportAdmin(ReadOnlyAdmin):
    """One page for each data subject and period; reading it is an entry."""

    def get_urls(self) -> list[URLPattern]:
        """Return only the report: other pages would show entries without recording it."""
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        view = self.admin_site.admin_view
        return [
            path("", view(self.changelist_view), name=f"{name}_changelist"),
            *(
                path(f"download/{kind}/", view(self.download), {"kind": kind}, f"{name}_{kind}")
                for kind in FILE_NAMES
            ),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return can_view_all_reports(request.user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def _check_permission(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            subject = request.GET.get("data_subject", "")
            report_deny(subject, user=request.user, request=request)
            raise PermissionDenied

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the form, and the report once it is filled in."""
        self._check_permission(request)
        form = ReportForm(request.GET or None)
        context = {
            **self.admin_site.each_context(request),
            **(extra_context or {}),
            "title": _("Access report"),
            "opts": self.opts,
            "form": form,
            "is_nav_sidebar_enabled": False,
        }
        if form.is_valid():
            context |= _report_context(request, form)
        template = "myometrics_audit_access_report/admin_page.html"
        return TemplateResponse(request, template, context, status=400 if form.errors else 200)

    def download(self, request: HttpRequest, kind: str) -> HttpResponseBase:
        """Return the whole report as a file."""
        self._check_permission(request)
        form = ReportForm(request.GET)
        if not form.is_valid():
            text = "text/plain; charset=utf-8"
            return HttpResponseBadRequest(form.errors.as_text(), content_type=text)
        selection = _open(request, form, file_format=kind)
        for_subject = form.cleaned_data["for_subject"]
        chunks = report_chunks(selection, kind, for_subject=for_subject)
        return download_response(request, chunks, FILE_NAMES[kind])


def _open(request: HttpRequest, form: ReportForm, *, file_format: str) -> Selection:
    user: Any = request.user
    return report_open(form.selection, user=user, request=request, format=file_format)


def _report_context(request: HttpRequest, form: ReportForm) -> dict[str, Any]:
    selection = _open(request, form, file_format="page")
    for_subject = form.cleaned_data["for_subject"]
    with read_from_replica(user=request.user):
        count, rows = report_page(selection, 0, MAX_ROWS, for_subject=for_subject)
    for row in rows:
        row["what"] = action_words(row["action"])
        row["data"] = data_words(row["resource_type"], row["resource_id"])
    return {
        "subject": selection.data_subject,
        "start_date": selection.start_date,
        "end_date": selection.end_date,
        "clinic": audit_settings.ACCESS_REPORT_CLINIC,
        "printed_at": timezone.now(),
        "count": count,
        "rows": rows,
        "has_more": count > len(rows),
        "max_rows": MAX_ROWS,
        "query": urlencode(
            {name: value for name, value in form.cleaned_data.items() if value not in (None, False)}
        ),
    }
