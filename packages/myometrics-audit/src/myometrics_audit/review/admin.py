"""Django admin of the review: findings are assigned and decided, periods signed off."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.timezone import localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from myometrics_core.read_only_admin import InternalAdmin, ReadOnlyAdmin

from ..log.models import AuditLog
from .emergency_access import end_emergency_access
from .findings import finding_assign, finding_decide
from .models import EmergencyAccess, Finding, Review, RuleState, ScanPosition
from .reviews import review_sign_off, validate_period
from .rules import describe_finding, registered_rules

TEXT_PAGE = "admin/myometrics_audit_review/ask_for_text.html"


def apply_each(
    model_admin: Any, request: HttpRequest, rows: Iterable[Any], service: Callable[[Any], None]
) -> None:
    """Call ``service`` for each row, and show how many succeeded and why others did not."""
    done = 0
    for row in rows:
        try:
            service(row)
        except ValidationError as error:
            model_admin.message_user(request, " ".join(error.messages), messages.ERROR)
        else:
            done += 1
    if done:
        model_admin.message_user(request, gettext("%d done.") % done, messages.SUCCESS)


def ask_for_text(
    model_admin: Any,
    request: HttpRequest,
    rows: Iterable[Any],
    *,
    title: str,
    label: str,
    seen: str = "",
) -> str | HttpResponse:
    """Return the text that the user entered, or the page that asks for it.

    The form posts ``seen`` back: the state of the rows that the user saw.
    """
    if "text" in request.POST:
        return request.POST["text"].strip()
    context = {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "label": label,
        "rows": rows,
        "seen": seen,
        "action": request.POST.get("action"),
        "is_across": request.POST.get("select_across") == "1",
        "opts": model_admin.model._meta,
    }
    return TemplateResponse(request, TEXT_PAGE, context)


def _seen_findings(request: HttpRequest) -> dict[int, tuple[int, str]]:
    """Return how many entries and which state of each finding the page has shown, by key."""
    shown = re.findall(r"\b(\d{1,18}):(\d{1,9}):(\w+)", request.POST.get("seen", ""))
    return {int(key): (int(count), state) for key, count, state in shown}


class RuleFilter(admin.SimpleListFilter):
    """Filter by rule; shows the titles of rules."""

    title = _("rule")
    parameter_name = "rule"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(name, rule.title) for name, rule in registered_rules().items()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(rule=self.value()) if self.value() else queryset


class AssigneeFilter(admin.SimpleListFilter):
    """Filter by assignment."""

    title = _("assigned to")
    parameter_name = "assigned"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("me", _("me")), ("none", _("no reviewer"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "me":
            return queryset.filter(assignee=request.user.pk)
        return queryset.filter(assignee=None) if self.value() == "none" else queryset


@admin.register(Finding)
class FindingAdmin(ReadOnlyAdmin):
    """Findings, newest first; reviewers assign and decide them."""

    list_display = (
        "time",
        "in_words",
        "severity",
        "user",
        "data_subject",
        "entry_count",
        "state",
        "assignee",
    )
    list_display_links = ("time", "in_words")
    list_filter = ("state", RuleFilter, "severity", AssigneeFilter, "happened_at")
    list_select_related = ("user", "assignee")
    search_fields = ("data_subject__exact",)
    search_help_text = _("Finds findings about a data subject by its exact id.")
    actions = ("assign_to_me", "confirm", "dismiss")
    fields = (
        "in_words",
        "severity",
        "user",
        "data_subject",
        "happened_at",
        "opened_at",
        "entry_links",
        "emergency_reason",
        "state",
        "assignee",
        "decided_by",
        "decided_at",
        "reason",
        "review",
    )
    readonly_fields = fields

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may decide findings."""
        return request.user.has_perm("myometrics_audit_review.decide_finding")

    @admin.display(description=_("time"), ordering="happened_at")
    def time(self, finding: Finding) -> str:
        return f"{localtime(finding.happened_at):%Y-%m-%d %H:%M}"

    @admin.display(description=_("finding"), ordering="rule")
    def in_words(self, finding: Finding) -> str:
        return describe_finding(finding)

    @admin.display(description=_("entries"))
    def entry_links(self, finding: Finding) -> str:
        links = format_html_join(", ", "{}", ((self._entry_link(pk),) for pk in finding.entries))
        more = finding.entry_count - len(finding.entries)
        return format_html("{}{}", links, gettext(" and %d more") % more if more > 0 else "")

    def _entry_link(self, entry_id: int) -> str:
        site = self.admin_site
        if not site.is_registered(AuditLog):
            return str(entry_id)
        name = "admin:myometrics_audit_auditlog_change"
        url = reverse(name, args=[entry_id], current_app=site.name)
        return format_html('<a href="{}">{}</a>', url, entry_id)

    @admin.display(description=_("reason of the emergency access"))
    def emergency_reason(self, finding: Finding) -> str:
        grant = EmergencyAccess.objects.filter(finding=finding).first()
        return grant.reason if grant else "–"

    @admin.action(description=_("Assign to me"), permissions=["decide"])
    def assign_to_me(self, request: HttpRequest, rows: QuerySet[Finding]) -> None:
        actor: Any = request.user
        apply_each(self, request, rows, lambda row: finding_assign(finding=row, actor=actor))

    @admin.action(description=_("Confirm: an incident"), permissions=["decide"])
    def confirm(self, request: HttpRequest, rows: QuerySet[Finding]) -> HttpResponse | None:
        """Confirm the findings as incidents."""
        return self._decide(request, rows, Finding.State.CONFIRMED, gettext("Confirm findings"))

    @admin.action(description=_("Dismiss with a reason"), permissions=["decide"])
    def dismiss(self, request: HttpRequest, rows: QuerySet[Finding]) -> HttpResponse | None:
        return self._decide(request, rows, Finding.State.DISMISSED, gettext("Dismiss findings"))

    def _decide(
        self, request: HttpRequest, rows: QuerySet[Finding], state: str, title: str
    ) -> HttpResponse | None:
        findings = list(rows)
        shown = " ".join(f"{row.pk}:{row.entry_count}:{row.state}" for row in findings)
        reason = ask_for_text(
            self, request, findings, title=title, label=gettext("Reason"), seen=shown
        )
        if not isinstance(reason, str):
            return reason
        actor: Any = request.user
        seen = _seen_findings(request)

        def decide(row: Finding) -> None:
            entry_count, seen_state = seen[row.pk]
            finding_decide(
                finding=row,
                actor=actor,
                state=state,
                reason=reason,
                entry_count=entry_count,
                seen_state=seen_state,
                request=request,
            )

        apply_each(self, request, [row for row in findings if row.pk in seen], decide)
        return None


@admin.register(Review)
class ReviewAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Periods; one is added, and signed off when its findings are decided."""

    list_display = ("start", "end", "signed_at", "signed_by")
    fields = ("start", "end", "signed_by", "signed_at", "comment")
    readonly_fields = ("signed_by", "signed_at", "comment")
    actions = ("sign_off",)

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, *args, **kwargs)

        class ReviewForm(form):  # type: ignore[misc]
            def clean(self) -> Any:
                cleaned = super().clean()
                if {"start", "end"} <= set(self.cleaned_data):
                    period = Review(pk=self.instance.pk, **self.cleaned_data)
                    validate_period(period)
                return cleaned

        return ReviewForm

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            super().save_model(request, obj, form, change)
            return
        # Only the days: the page may be older than a sign-off.
        unsigned = Review.objects.filter(pk=obj.pk, signed_at=None)
        if not unsigned.update(start=obj.start, end=obj.end):
            raise PermissionDenied(gettext("The review is signed off already."))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_closed = obj is not None and obj.signed_at is not None
        return not is_closed and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_sign_off_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may sign off reviews."""
        return request.user.has_perm("myometrics_audit_review.sign_off_review")

    @admin.action(description=_("Sign off"), permissions=["sign_off"])
    def sign_off(self, request: HttpRequest, rows: QuerySet[Review]) -> HttpResponse | None:
        """Sign off the periods, the oldest first."""
        comment = ask_for_text(
            self, request, rows, title=gettext("Sign off reviews"), label=gettext("Comment")
        )
        if not isinstance(comment, str):
            return comment
        actor: Any = request.user
        apply_each(
            self,
            request,
            rows.order_by("start"),
            lambda row: review_sign_off(review=row, actor=actor, comment=comment, request=request),
        )
        return None


@admin.register(EmergencyAccess)
class EmergencyAccessAdmin(ReadOnlyAdmin):
    """Emergency accesses, newest first; reviewers end running ones, and decide their findings."""

    list_display = ("granted_at", "expires_at", "actor", "data_subject", "state")
    fields = ("actor", "data_subject", "reason", "granted_at", "expires_at", "finding")
    readonly_fields = fields
    list_select_related = ("actor", "finding")
    actions = ("end",)

    def has_end_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may end emergency accesses of others."""
        return request.user.has_perm("myometrics_audit_review.decide_finding")

    @admin.action(description=_("End now"), permissions=["end"])
    def end(self, request: HttpRequest, rows: QuerySet[EmergencyAccess]) -> None:
        """End the accesses before they expire."""
        actor: Any = request.user
        apply_each(
            self, request, rows, lambda row: end_emergency_access(row, actor, request=request)
        )

    @admin.display(description=_("review"))
    def state(self, grant: EmergencyAccess) -> str:
        return grant.finding.get_state_display()


@admin.register(ScanPosition)
class ScanPositionAdmin(InternalAdmin):
    """The position up to which the log is examined."""

    list_display = ("seal_number", "entry_id")


@admin.register(RuleState)
class RuleStateAdmin(InternalAdmin):
    """The states of rules."""

    list_display = ("rule", "key", "expires_at")
    ordering = ("-id",)
    sortable_by = ()
