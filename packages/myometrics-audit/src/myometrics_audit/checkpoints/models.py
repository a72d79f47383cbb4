"""Checkpoints: the signed heads of the tree of seals."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from myometrics_core.db import PortableTextField


class Checkpoint(models.Model):
    """A signed head of the tree, whose leaves are the seals.

    The size is the primary key, so that there is never a second checkpoint of a size.
    """

    size = models.BigIntegerField(_("size"), primary_key=True)
    root = models.BinaryField(_("root"), max_length=32)
    note = PortableTextField(_("note"))
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    published_at = models.DateTimeField(_("published at"), null=True)
    has_quorum = models.BooleanField(_("signed by enough witnesses"), default=False)
    timestamp = models.BinaryField(_("time-stamp"), null=True)

    objects: ClassVar[models.Manager[Checkpoint]] = models.Manager()

    class Meta:
        verbose_name = _("checkpoint")
        verbose_name_plural = _("checkpoints")
        ordering = ["size"]

    def __str__(self) -> str:
        return f"checkpoint of {self.size} seals"
