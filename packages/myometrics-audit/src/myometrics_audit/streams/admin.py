"""Django admin of streams."""

from __future__ import annotations

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from myometrics_core.db import atomic_write
from myometrics_core.read_only_admin import ReadOnlyAdmin

from .models import DeadLetter, Stream
from .services import SealNotReached, stream_pause, stream_replay, stream_resume


class ReplayForm(forms.Form):
    """The seal from which everything is sent again."""

    seal_number = forms.IntegerField(
        label=_("seal number"),
        min_value=1,
        help_text=_("Everything from this seal on is sent again; 1 is the beginning of the log."),
    )


@admin.register(Stream)
class StreamAdmin(ReadOnlyAdmin):
    """The state of streams; actions need the change permission."""

    list_display = ("name", "state", "seal_number", "sent", "sent_at", "failing_since")
    fields = (*list_display, "entry_id", "retry_at", "refused_in_row", "last_error")
    ordering = ("name",)
    actions = ("pause", "resume", "replay")

    def has_change_permission(self, request: HttpRequest, obj: Stream | None = None) -> bool:
        # The pages stay read-only; Django offers actions to users with the change permission.
        return obj is None and super(ReadOnlyAdmin, self).has_change_permission(request)

    @admin.action(description=_("Pause the selected streams"), permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Stream]) -> None:
        for stream in queryset:
            stream_pause(stream.name, actor=request.user, request=request)
        self._report(request, queryset)

    @admin.action(description=_("Resume the selected streams"), permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Stream]) -> None:
        for stream in queryset:
            stream_resume(stream.name, actor=request.user, request=request)
        self._report(request, queryset)

    @admin.action(description=_("Send again from a seal …"), permissions=["change"])
    def replay(self, request: HttpRequest, queryset: QuerySet[Stream]) -> HttpResponse | None:
        """Ask for a seal, then set the streams back to it."""
        form = ReplayForm(request.POST if "seal_number" in request.POST else None)
        if not form.is_valid() or not self._replay(request, queryset, form):
            return TemplateResponse(
                request,
                "admin/myometrics_audit_streams/stream/replay.html",
                {
                    **self.admin_site.each_context(request),
                    "title": _("Send again"),
                    "form": form,
                    "streams": queryset,
                    "opts": self.opts,
                    "action_checkbox_name": ACTION_CHECKBOX_NAME,
                },
            )
        self._report(request, queryset)
        return None

    def _replay(self, request: HttpRequest, queryset: QuerySet[Stream], form: ReplayForm) -> bool:
        """Set all streams back, or none of them."""
        number = form.cleaned_data["seal_number"]
        try:
            with atomic_write(router.db_for_write(Stream)):
                for stream in queryset:
                    stream_replay(
                        stream.name, seal_number=number, actor=request.user, request=request
                    )
        except SealNotReached as error:
            text = _("The stream %(stream)s has only reached seal %(number)d.")
            values = {"stream": error.stream, "number": error.seal_number}
            form.add_error("seal_number", text % values)
            return False
        return True

    def _report(self, request: HttpRequest, queryset: QuerySet[Stream]) -> None:
        count = queryset.count()
        text = ngettext("%d stream changed.", "%d streams changed.", count) % count
        self.message_user(request, text, messages.SUCCESS)


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    """Entries that receivers refused."""

    list_display = ("stream", "entry_id", "error", "refused_at")
    list_filter = ("stream",)
    fields = (*list_display,)
    ordering = ("stream", "entry_id")
