"""The table of pending and dead jobs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, Final

from django.db import models, router
from django.db.models import Case, Q, QuerySet, When
from django.utils.translation import gettext_lazy as _

from ..db.model_fields import PortableCharField, PortableDateTimeField
from ..times import utc_now

RELEASED: Final[dict[str, Any]] = {"claimed_by": None, "claimed_until": None}
"""The values of a job that no worker has claimed."""


class JobQuerySet(models.QuerySet["Job"]):
    """Jobs by what can be done with them."""

    def due(self, now: datetime | None = None) -> QuerySet[Job]:
        """Return the jobs that a worker may claim now, the longest due first."""
        now = now or utc_now()
        is_free = Q(claimed_until=None) | Q(claimed_until__lte=now)
        return self.pending().filter(is_free, run_at__lte=now).order_by("run_at", "pk")

    def pending(self) -> JobQuerySet:
        """Return the jobs that are neither finished nor dead."""
        return self.filter(state=Job.State.PENDING)

    def claimed_as(self, job: Job) -> JobQuerySet:
        """Return the job while its claim is the one with which ``job`` was read."""
        return self.pending().filter(pk=job.pk, claimed_by=job.claimed_by)

    def dead(self) -> JobQuerySet:
        """Return the jobs whose last attempt failed."""
        return self.filter(state=Job.State.DEAD)


class JobManager(models.Manager.from_queryset(JobQuerySet)):  # type: ignore[misc]
    """Reads from the database that is written: a lagging replica would lose claims."""

    def get_queryset(self) -> JobQuerySet:
        return super().get_queryset().using(router.db_for_write(self.model))


class Job(models.Model):
    """Work to be done once the transaction that wrote it is committed. Finished jobs are deleted.

    A worker owns the job while ``claimed_by`` is its token; after ``claimed_until`` another worker
    takes over. Payloads contain ids; addresses only if there is no id, as for a password reset.
    """

    class State(models.TextChoices):
        """``dead`` after the last attempt has failed; ``run_at`` is then the time of that."""

        PENDING = "pending", _("pending")
        DEAD = "dead", _("dead letter")

    kind = models.CharField(_("kind"), max_length=100)
    key = PortableCharField(
        _("key"), max_length=200, blank=True, help_text=_("Unique per kind while pending.")
    )
    payload = models.JSONField(_("payload"), default=dict)
    state = models.CharField(
        _("state"), max_length=10, choices=State.choices, default=State.PENDING
    )
    run_at = PortableDateTimeField(_("due"), default=utc_now)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    claimed_by = models.UUIDField(_("claimed by"), null=True, editable=False)
    claimed_until = PortableDateTimeField(_("claimed until"), null=True, editable=False)
    run_again = models.BooleanField(_("run again"), default=False, editable=False)
    last_error = PortableCharField(_("last error"), max_length=200, blank=True)
    request_id = PortableCharField(_("request id"), max_length=64, blank=True, editable=False)
    created_at = PortableDateTimeField(_("created"), default=utc_now, editable=False)

    objects = JobManager()

    class Meta:
        app_label = "myometrics_core"
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        indexes: ClassVar = [
            models.Index(
                fields=["kind", "run_at"], condition=Q(state="pending"), name="myo_core_job_due"
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["kind", "key"], condition=Q(state="pending"), name="myo_core_job_pending"
            )
        ]

    def __str__(self) -> str:
        return f"job {self.pk} ({self.kind})"

    next_run: Callable[[datetime], datetime] | None = None
    """Of a recurring job, set when it is claimed."""
    is_finish_called = False

    def finish(self) -> bool:
        """Finish the job within the transaction that writes its result.

        It is deleted, or due again if it is recurring or was enqueued while it ran. False if this
        worker no longer holds the claim: then write nothing.
        """
        self.is_finish_called = True
        owned, now = Job.objects.claimed_as(self), utc_now()
        fresh: dict[str, Any] = {**RELEASED, "attempts": 0, "last_error": ""}
        if self.next_run is not None:
            # One statement: the job may be enqueued at the same time.
            run_at = Case(When(run_again=True, then=now), default=self.next_run(now))
            return bool(owned.update(**fresh, run_at=run_at))
        # Not `delete()`: with a receiver of the site for all models it reads first, and deletes
        # by id.
        done = owned.filter(run_again=False)._raw_delete(owned.db)
        return bool(done or owned.filter(run_again=True).update(**fresh, run_at=now))
