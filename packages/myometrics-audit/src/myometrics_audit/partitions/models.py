"""The partitions of the table of entries, and the activity ids of all entries."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from myometrics_core.db import PortableCharField, PortableDateTimeField


class Partition(models.Model):
    """The entries with an id from ``first_id`` up to, but not including, ``end_id``.

    A closed partition refuses new entries, all its entries are sealed, and ``oldest`` and
    ``newest`` are the times of its first and its last entry (NULL if it has none). Until then
    these are unknown, and NULL.
    """

    first_id = models.BigIntegerField(_("first id"), primary_key=True)
    end_id = models.BigIntegerField(_("end"), unique=True)
    table_name = models.CharField(_("table"), max_length=63, unique=True)
    closed_at = models.DateTimeField(_("closed at"), null=True)
    oldest = PortableDateTimeField(_("oldest entry"), null=True)
    newest = PortableDateTimeField(_("newest entry"), null=True)

    objects: ClassVar[models.Manager[Partition]] = models.Manager()

    class Meta:
        verbose_name = _("partition")
        verbose_name_plural = _("partitions")
        ordering = ["first_id"]

    def __str__(self) -> str:
        return f"entries {self.first_id} to {self.end_id - 1}"


class RecordedActivity(models.Model):
    """The activity id of an entry, unique in all partitions.

    A unique index of a partitioned table must include the column by which it is partitioned, so
    the table of entries can't have one on the activity id. A trigger fills this table.
    """

    entry_id = models.BigIntegerField(_("entry id"), primary_key=True)
    activity_id = PortableCharField(_("activity id"), max_length=150)

    objects: ClassVar[models.Manager[RecordedActivity]] = models.Manager()

    class Meta:
        verbose_name = _("recorded activity")
        verbose_name_plural = _("recorded activities")
        constraints = [
            # With unique=True, Django would add another index for LIKE.
            models.UniqueConstraint(fields=["activity_id"], name="myo_audit_recorded_activity")
        ]

    def __str__(self) -> str:
        return str(self.activity_id)


class Conversion(models.Model):
    """The progress of a conversion of the table; one row while it is unfinished."""

    recorded_up_to = models.BigIntegerField(_("recorded up to"))

    objects: ClassVar[models.Manager[Conversion]] = models.Manager()

    class Meta:
        verbose_name = _("conversion")
        verbose_name_plural = _("conversions")

    def __str__(self) -> str:
        return f"activities of entries up to {self.recorded_up_to}"
