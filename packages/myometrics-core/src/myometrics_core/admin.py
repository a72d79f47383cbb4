"""Django admin of pending and dead jobs."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from .db.transactions import atomic_write
from .jobs.kinds import job_kind, job_kinds
from .jobs.models import Job
from .jobs.queue import enqueue
from .read_only_admin import ReadOnlyAdmin
from .times import utc_now

MAX_CHOSEN = 1000


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """Jobs without payloads, which may contain addresses; actions need the change permission."""

    list_display = ("kind", "key", "state", "run_at", "attempts", "last_error", "created_at")
    list_filter = ("state", "kind")
    search_fields = ("kind__startswith", "key__startswith")
    ordering = ("-pk",)
    fields = (*list_display, "claimed_until", "request_id")
    actions = ("retry", "cancel")

    def has_change_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        # The pages stay read-only; Django offers actions to users with the change permission.
        return obj is None and super(ReadOnlyAdmin, self).has_change_permission(request)

    @admin.action(description=_("Run the selected jobs again now"), permissions=["change"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Enqueue dead jobs again, with all their attempts, and make waiting ones due.

        Not those that are running: they would run twice.
        """
        queryset = queryset.exclude(claimed_until__gt=utc_now())
        known = [kind.name for kind in job_kinds()]
        unknown = queryset.exclude(kind__in=known).values_list("kind", flat=True).first()
        if unknown is not None:
            text = _("No installed app runs jobs of the kind %s.") % unknown
            self.message_user(request, text, messages.ERROR)
            return
        with atomic_write(router.db_for_write(Job)):
            jobs = list(queryset.select_for_update().order_by("pk")[:MAX_CHOSEN])
            for job in jobs:
                if job.state == Job.State.DEAD:
                    job_kind(job.kind).on_retry(job)
                job.delete()
                enqueue(job.kind, job.payload, key=job.key)
        text = ngettext("%d job runs again.", "%d jobs run again.", len(jobs)) % len(jobs)
        self.message_user(request, text, messages.SUCCESS)

    @admin.action(description=_("Cancel the selected jobs"), permissions=["change"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Delete the jobs; recurring ones come back."""
        count = queryset.count()
        queryset.delete()
        text = ngettext("%d job cancelled.", "%d jobs cancelled.", count) % count
        self.message_user(request, text, messages.SUCCESS)
