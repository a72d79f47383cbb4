"""Upload facts and their rollups.

``Upload`` holds the facts. Every change of a fact appends the difference as a ``PendingChange`` in
the same transaction; one worker at a time folds pending changes into the rollups. Invariant for
every number: facts = rollup + pending changes. Writers only insert pending changes, so they don't
contend for a shared row. See the decision record "Pending changes beside rollups".
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from myometrics_core.db import PortableCharField, PortableDateTimeField

__all__ = [
    "ClientReports",
    "DailyRollup",
    "Dashboard",
    "DayRollup",
    "LimitDecision",
    "PendingChange",
    "PullState",
    "RebuildCheckpoint",
    "RollupState",
    "Status",
    "Upload",
    "UploadReport",
    "UserRollup",
]

MICROSECONDS = 1_000_000
MAX_UPLOAD_ID_LENGTH, MAX_DIAGNOSIS_LENGTH, MAX_FILENAME_LENGTH = 100, 200, 255
"""Characters."""


class Status(models.TextChoices):
    """Processing status of an upload."""

    PROCESSING = "processing", _("processing")
    COMPLETED = "completed", _("completed")
    FAILED = "failed", _("failed")


class UploadQuerySet(models.QuerySet["Upload"]):
    """Filters for upload facts."""

    def counted(self) -> UploadQuerySet:
        """Return the uploads that the rollups count: those within the daily limit."""
        return self.exclude(over_limit=True)


class MergedUpload(models.Model):
    """What one or several sources report about an upload, merged; abstract.

    Every detail stores the rank of its source (``facts.Origin``; 0: no value), so that events can
    arrive in any order. Processing time is stored in whole microseconds, so that
    sums are exact.

    ``client_only`` and ``over_limit`` are null on facts from before the columns were added; those
    facts count. ``over_limit`` is decided once, when a client first reports the upload.
    Confirmation by another origin sets both to ``False``.
    """

    upload_id = PortableCharField(_("upload id"), max_length=MAX_UPLOAD_ID_LENGTH)
    uploaded_at = PortableDateTimeField(_("uploaded at"))
    day = models.DateField(_("UTC day"), editable=False)
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.PROCESSING
    )
    diagnosis = PortableCharField(_("diagnosis"), max_length=MAX_DIAGNOSIS_LENGTH, blank=True)
    diagnosis_rank = models.PositiveSmallIntegerField(
        _("diagnosis rank"), default=0, editable=False
    )
    filename = PortableCharField(_("filename"), max_length=MAX_FILENAME_LENGTH, blank=True)
    filename_rank = models.PositiveSmallIntegerField(_("filename rank"), default=0, editable=False)
    file_size = models.PositiveBigIntegerField(_("file size (bytes)"), null=True, blank=True)
    file_size_rank = models.PositiveSmallIntegerField(
        _("file size rank"), default=0, editable=False
    )
    confidence = models.FloatField(_("confidence"), null=True, blank=True)
    confidence_rank = models.PositiveSmallIntegerField(
        _("confidence rank"), default=0, editable=False
    )
    processing_us = models.PositiveBigIntegerField(
        _("processing time (µs)"),
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(86_400 * MICROSECONDS)],
    )
    processing_us_rank = models.PositiveSmallIntegerField(
        _("processing us rank"), default=0, editable=False
    )
    client_only = models.BooleanField(_("reported by a client only"), null=True, editable=False)
    over_limit = models.BooleanField(_("over the daily limit"), null=True, editable=False)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.filename or self.upload_id


class Upload(MergedUpload):
    """The merged facts about one upload; unique per user and upload id."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        related_name="+",
        db_index=False,
    )

    objects: ClassVar[UploadQuerySet] = UploadQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("upload")
        verbose_name_plural = _("uploads")
        constraints = [
            models.UniqueConstraint(fields=["user", "upload_id"], name="analytics_upload_unique")
        ]
        indexes = [
            models.Index(fields=["user", "uploaded_at"], name="analytics_upload_user"),
            models.Index(fields=["day", "user"], name="analytics_upload_day"),
            models.Index(fields=["upload_id"], name="analytics_upload_id"),
        ]

    @property
    def processing_time(self) -> float | None:
        """Processing time in seconds, ``None`` if unknown."""
        return None if self.processing_us is None else self.processing_us / MICROSECONDS


class UploadReport(MergedUpload):
    """The part of an upload's facts that one ownership of an e-mail address contributes.

    Exists only for uploads that the image service reports under an address. ``ownership`` is the
    key of core's ``AddressOwnership``; the row with an empty one, if any, is what everything else
    contributes. The upload is all of them merged; so a part can be removed when the address turns
    out not to be the user's. Without a database constraint: processes of the previous release may
    delete the user.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        db_constraint=False,
        related_name="+",
        db_index=False,
    )
    ownership = models.CharField(_("ownership of the address"), max_length=100, blank=True)

    class Meta:
        verbose_name = _("report of an upload")
        verbose_name_plural = _("reports of uploads")
        constraints = [
            models.UniqueConstraint(
                fields=["user", "upload_id", "ownership"], name="analytics_report_unique"
            )
        ]
        indexes = [
            models.Index(fields=["ownership", "uploaded_at"], name="analytics_report_ownership")
        ]


class ClientReports(models.Model):
    """Number of new uploads that a client first reported for one user on one UTC day.

    Without a database constraint: processes of the previous release may delete the user.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        db_constraint=False,
        related_name="+",
        db_index=False,
    )
    day = models.DateField(_("UTC day"))
    uploads = models.BigIntegerField(_("uploads"), default=0)

    class Meta:
        verbose_name = _("client's reports")
        verbose_name_plural = _("clients' reports")
        constraints = [
            models.UniqueConstraint(fields=["user", "day"], name="analytics_reports_unique")
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.day}: {self.uploads}"


class LimitDecision(models.Model):
    """Whether an upload is over the daily limit; kept during a rebuild from scratch."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        db_constraint=False,
        related_name="+",
        db_index=False,
    )
    upload_id = PortableCharField(_("upload id"), max_length=MAX_UPLOAD_ID_LENGTH)
    over_limit = models.BooleanField(_("over the daily limit"))

    class Meta:
        verbose_name = _("decision on the daily limit")
        verbose_name_plural = _("decisions on the daily limit")
        constraints = [
            models.UniqueConstraint(fields=["user", "upload_id"], name="analytics_decision_unique")
        ]

    def __str__(self) -> str:
        return f"{self.upload_id}: {self.over_limit}"


class PendingChange(models.Model):
    """A change of the facts that is not yet folded into the rollups; folding deletes it.

    ``user`` has no database constraint, because the change outlives the user.
    """

    day = models.DateField(_("day"))
    diagnosis = PortableCharField(_("diagnosis"), max_length=MAX_DIAGNOSIS_LENGTH, blank=True)
    status = models.CharField(_("status"), max_length=10)
    user: models.ForeignKey[Any, Any] = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    uploads = models.BigIntegerField(_("uploads"), default=0)
    processing_us = models.BigIntegerField(_("processing us"), default=0)
    processed = models.BigIntegerField(_("processed"), default=0)

    class Meta:
        verbose_name = _("pending change")
        verbose_name_plural = _("pending changes")

    def __str__(self) -> str:
        return f"{self.day} {self.status} {self.uploads:+d}"


class DailyRollup(models.Model):
    """Folded counts of the uploads of one UTC day with one diagnosis and status.

    ``processed`` is the number of uploads with a known processing time, ``processing_us`` its sum.
    """

    day = models.DateField(_("day"))
    diagnosis = PortableCharField(_("diagnosis"), max_length=MAX_DIAGNOSIS_LENGTH, blank=True)
    status = models.CharField(_("status"), max_length=10, choices=Status.choices)
    uploads = models.BigIntegerField(_("uploads"), default=0)
    processing_us = models.BigIntegerField(_("processing time (µs)"), default=0)
    processed = models.BigIntegerField(_("processed"), default=0)

    class Meta:
        verbose_name = _("daily rollup")
        verbose_name_plural = _("daily rollups")
        constraints = [
            models.UniqueConstraint(
                fields=["day", "diagnosis", "status"], name="analytics_daily_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.diagnosis or '–'} {self.status}: {self.uploads}"


class DayRollup(models.Model):
    """Folded counts of one UTC day over all diagnoses and statuses."""

    day = models.DateField(_("day"), primary_key=True)
    uploads = models.BigIntegerField(_("uploads"), default=0)
    completed = models.BigIntegerField(_("completed"), default=0)
    failed = models.BigIntegerField(_("failed"), default=0)
    processing_us = models.BigIntegerField(_("processing time (µs)"), default=0)
    processed = models.BigIntegerField(_("processed"), default=0)
    uploaders = models.BigIntegerField(_("uploading users"), default=0)

    class Meta:
        verbose_name = _("day")
        verbose_name_plural = _("days")

    def __str__(self) -> str:
        return f"{self.day}: {self.uploads}"


class Dashboard(DayRollup):
    """Proxy without a table: gives the admin dashboard a URL and a permission."""

    class Meta:
        proxy = True
        verbose_name = _("dashboard")
        verbose_name_plural = _("dashboard")


class UserRollup(models.Model):
    """Folded number of all uploads of one user, and the UTC day of the last one."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="+",
    )
    uploads = models.BigIntegerField(_("uploads"), default=0)
    last_day = models.DateField(_("last upload on"), null=True)

    class Meta:
        verbose_name = _("user rollup")
        verbose_name_plural = _("user rollups")

    def __str__(self) -> str:
        return f"{self.user_id}: {self.uploads}"


class RollupState(models.Model):
    """Single row that folding locks; writers of facts don't use it."""

    uploads = models.BigIntegerField(_("uploads over all time"), default=0)
    folded_at = models.DateTimeField(_("folded at"), null=True)
    checked_at = models.DateTimeField(_("last self-check"), null=True)
    repairs = models.BigIntegerField(_("numbers repaired by the last self-check"), default=0)

    class Meta:
        verbose_name = _("rollup state")
        verbose_name_plural = _("rollup state")

    def __str__(self) -> str:
        return f"{self.uploads} uploads"


class PullState(models.Model):
    """Single row about the last pulls: validators and figures. Failures are in the job."""

    etag = PortableCharField(_("etag"), max_length=500, blank=True)
    last_modified = PortableCharField(_("last modified"), max_length=100, blank=True)
    succeeded_at = models.DateTimeField(_("succeeded at"), null=True)
    completed_at = models.DateTimeField(_("last unconditional pull"), null=True)
    rows = models.BigIntegerField(_("rows of the last pull"), default=0)
    bad_rows = models.BigIntegerField(_("bad rows"), default=0)
    unknown_users = models.BigIntegerField(_("unknown users"), default=0)

    class Meta:
        verbose_name = _("image service pull")
        verbose_name_plural = _("image service pulls")

    def __str__(self) -> str:
        return f"{self.rows} rows"


class RebuildCheckpoint(models.Model):
    """Progress of an unfinished rebuild in one source of events."""

    source = models.CharField(_("source"), max_length=100, primary_key=True)
    began_at = models.DateTimeField(_("first event"))
    reached_at = models.DateTimeField(_("events replayed up to"))
    activities = models.BigIntegerField(_("events"), default=0)

    class Meta:
        verbose_name = _("rebuild checkpoint")
        verbose_name_plural = _("rebuild checkpoints")

    def __str__(self) -> str:
        return f"{self.source}: {self.activities}"
