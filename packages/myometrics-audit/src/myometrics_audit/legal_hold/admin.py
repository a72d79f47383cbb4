"""Django admin of legal holds: add and release, never change or delete."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from myometrics_core.read_only_admin import FilterCheckedAdmin

from .models import LegalHold
from .services import hold_place, hold_release, validate_hold


class StateFilter(admin.SimpleListFilter):
    """Filter by state."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("active", _("active")), ("released", _("released"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() in ("active", "released"):
            return queryset.filter(released_at__isnull=self.value() == "active")
        return queryset


@admin.register(LegalHold)
class LegalHoldAdmin(FilterCheckedAdmin):
    """Legal holds, newest first."""

    list_display = ("__str__", "held", "placed_at", "placed_by", "released_at", "released_by")
    list_select_related = ("user", "placed_by", "released_by")
    list_filter = (StateFilter,)
    search_fields = ("data_subject__exact",)
    search_help_text = _("Finds holds on a data subject by its exact id.")
    raw_id_fields = ("user",)
    fields = ("user", "data_subject", "reason")
    actions = ("release",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        shown = ("placed_by", "placed_at", "released_by", "released_at")
        return self.fields if obj is None else (*self.fields, *shown)

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, *args, **kwargs)

        class LegalHoldForm(form):  # type: ignore[misc]
            def clean(self) -> Any:
                cleaned = super().clean()
                if not self.errors:
                    validate_hold(**self.cleaned_data)
                return cleaned

        return LegalHoldForm

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except ValidationError as error:  # of hold_place: the user is being deleted
            self.message_user(request, " ".join(error.messages), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        actor: Any = request.user
        placed = hold_place(actor=actor, request=request, **form.cleaned_data)
        obj.pk = placed.pk

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_release_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may release holds."""
        return request.user.has_perm("myometrics_audit_legal_hold.release_legalhold")

    @admin.display(description=_("held"))
    def held(self, hold: LegalHold) -> str:
        return str(hold.data_subject or hold.user or gettext("a deleted user"))

    @admin.action(description=_("Release: the entries can be erased"), permissions=["release"])
    def release(self, request: HttpRequest, rows: QuerySet[LegalHold]) -> None:
        actor: Any = request.user
        done = 0
        for hold in rows:
            try:
                hold_release(hold, actor=actor, request=request)
            except ValidationError as error:
                self.message_user(request, f"{hold}: {' '.join(error.messages)}", messages.ERROR)
            else:
                done += 1
        if done:
            self.message_user(request, gettext("%d done.") % done, messages.SUCCESS)
