"""The state of streams, and entries that their receivers refused."""

from __future__ import annotations

from typing import ClassVar

from django.db import models, router
from django.utils.translation import gettext_lazy as _

from myometrics_core.db import PortableCharField


class StreamManager(models.Manager["Stream"]):
    """Reads from the database that is written: a lagging replica would send entries again."""

    def get_queryset(self) -> models.QuerySet[Stream]:
        return super().get_queryset().using(router.db_for_write(self.model))


class Stream(models.Model):
    """The state of a stream. Its options are in the settings.

    Everything sealed before (``seal_number``, ``entry_id``) was sent, and this entry as well.
    """

    class State(models.TextChoices):
        """``dead`` after too many refused entries in a row; an operator resumes it."""

        RUNNING = "running", _("running")
        PAUSED = "paused", _("paused")
        DEAD = "dead", _("dead letter")

    name = models.CharField(_("name"), max_length=50, primary_key=True)
    state = models.CharField(
        _("state"), max_length=10, choices=State.choices, default=State.RUNNING
    )
    seal_number = models.BigIntegerField(_("seal number"), default=0)
    entry_id = models.BigIntegerField(_("entry id"), default=0)
    sent = models.BigIntegerField(_("messages sent"), default=0)
    sent_at = models.DateTimeField(_("last sent"), null=True)
    failing_since = models.DateTimeField(_("failing since"), null=True)
    failures = models.IntegerField(_("failures in a row"), default=0)
    retry_at = models.DateTimeField(_("not before"), null=True)
    last_error = PortableCharField(_("last error"), max_length=200, blank=True)
    refused_in_row = models.IntegerField(_("refused in a row"), default=0)
    # Of transports without acknowledgement: [seconds, seal number, entry id], oldest first.
    marks = models.JSONField(_("positions of the last seconds"), default=list)
    is_connected = models.BooleanField(_("connected"), default=False)
    sender = models.UUIDField(_("sender"), null=True, editable=False)

    objects: ClassVar[StreamManager] = StreamManager()

    class Meta:
        verbose_name = _("audit stream")
        verbose_name_plural = _("audit streams")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class DeadLetter(models.Model):
    """An entry that the receiver refused for good; the stream continued without it."""

    stream = models.ForeignKey(
        Stream, verbose_name=_("audit stream"), on_delete=models.CASCADE, related_name="letters"
    )
    stream_id: str
    entry_id = models.BigIntegerField(_("entry id"))
    error = PortableCharField(_("error"), max_length=200)
    refused_at = models.DateTimeField(_("refused at"))

    objects: ClassVar[models.Manager[DeadLetter]] = models.Manager()

    class Meta:
        verbose_name = _("refused entry")
        verbose_name_plural = _("refused entries")
        ordering = ["stream", "entry_id"]
        constraints = [
            models.UniqueConstraint(fields=["stream", "entry_id"], name="myo_audit_dead_letter")
        ]

    def __str__(self) -> str:
        return f"entry {self.entry_id} of {self.stream_id}"
