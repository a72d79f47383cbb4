"""Runs of ``audit_import`` with their progress."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class ImportRun(models.Model):
    """The import of one file or table; every batch of entries moves it on in its transaction.

    ``rows`` is always the sum of ``imported``, ``known`` (imported before) and ``refused``.
    """

    source = models.CharField(_("package"), max_length=20)
    system = models.CharField(_("system"), max_length=50)
    place = models.CharField(_("digest of the file, or table"), max_length=100)
    # A file has one run; a table another one for the rows that were added since.
    number = models.IntegerField(_("number"), default=1)
    cursor = models.CharField(_("last row read"), max_length=255, blank=True, default="")
    rows = models.BigIntegerField(_("rows read"), default=0)
    imported = models.BigIntegerField(_("entries imported"), default=0)
    known = models.BigIntegerField(_("rows imported before"), default=0)
    refused = models.BigIntegerField(_("rows refused"), default=0)
    started_at = models.DateTimeField(_("started at"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished at"), null=True)

    objects: ClassVar[models.Manager[ImportRun]] = models.Manager()

    class Meta:
        verbose_name = _("import")
        verbose_name_plural = _("imports")
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["source", "system", "place", "number"], name="myo_audit_import_run"
            )
        ]

    def __str__(self) -> str:
        return f"import {self.pk} from {self.source} ({self.system})"
