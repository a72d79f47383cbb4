"""Findings, signed-off periods, emergency access, and the position of the examination."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from myometrics_core.db import PortableCharField, PortableTextField

from ..log.user_fields import user_field


class ScanPosition(models.Model):
    """The last entry that was examined, in the order of the seals. One row, with the key 1."""

    id = models.SmallIntegerField(_("id"), primary_key=True, default=1)
    seal_number = models.BigIntegerField(_("seal number"), default=0)
    entry_id = models.BigIntegerField(_("entry id"), default=0)

    objects: ClassVar[models.Manager[ScanPosition]] = models.Manager()

    class Meta:
        verbose_name = _("position of the examination")
        verbose_name_plural = _("positions of the examination")

    def __str__(self) -> str:
        return f"seal {self.seal_number}, entry {self.entry_id}"


class RuleState(models.Model):
    """What a rule stores about earlier entries under a key, such as a user's id."""

    rule = models.CharField(_("rule"), max_length=50)
    key = models.CharField(_("key"), max_length=150)
    value = models.JSONField(_("value"), default=dict)
    expires_at = models.DateTimeField(_("expires at"), db_index=True)

    objects: ClassVar[models.Manager[RuleState]] = models.Manager()

    class Meta:
        verbose_name = _("state of a rule")
        verbose_name_plural = _("states of rules")
        constraints = [
            models.UniqueConstraint(fields=["rule", "key"], name="myo_review_state"),
        ]

    def __str__(self) -> str:
        return f"{self.rule} of {self.key}"


class Review(models.Model):
    """A period of days, in the site's time zone, whose findings are decided and signed off."""

    start = models.DateField(_("first day"), unique=True)
    end = models.DateField(_("last day"))
    signed_by = user_field(_("signed off by"))
    signed_at = models.DateTimeField(_("signed off at"), null=True, blank=True)
    comment = PortableTextField(_("comment"), blank=True, default="")

    objects: ClassVar[models.Manager[Review]] = models.Manager()

    class Meta:
        verbose_name = _("review")
        verbose_name_plural = _("reviews")
        ordering = ["-start"]
        permissions = [("sign_off_review", "Can sign off a review")]

    def __str__(self) -> str:
        return f"{self.start} – {self.end}"


class Finding(models.Model):
    """A group of entries that a rule reports, and the decision about them."""

    class State(models.TextChoices):
        """The decision."""

        OPEN = "open", _("open")
        CONFIRMED = "confirmed", _("confirmed")
        DISMISSED = "dismissed", _("dismissed")

    class Severity(models.IntegerChoices):
        """How urgent a finding is."""

        LOW = 1, _("low")
        MEDIUM = 2, _("medium")
        HIGH = 3, _("high")

    rule = models.CharField(_("rule"), max_length=50)
    key = PortableCharField(_("window"), max_length=255)
    # Entries after a decision open another finding of the same window.
    number = models.IntegerField(_("number"), default=1)
    severity = models.SmallIntegerField(_("severity"), choices=Severity.choices)
    user = user_field(_("user"))
    data_subject = PortableCharField(_("data subject"), max_length=100, blank=True, default="")
    happened_at = models.DateTimeField(_("time"))
    opened_at = models.DateTimeField(_("opened at"), default=timezone.now)
    entries = models.JSONField(_("entries"), default=list)
    entry_count = models.IntegerField(_("number of entries"), default=0)
    # The highest id that the examination of a period reported, also of entries not listed.
    period_entry = models.BigIntegerField(_("last entry of a period"), default=0)
    details = models.JSONField(_("details"), default=dict)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.OPEN)
    assignee = user_field(_("assigned to"))
    decided_by = user_field(_("decided by"))
    decided_at = models.DateTimeField(_("decided at"), null=True, blank=True)
    reason = PortableTextField(_("reason"), blank=True, default="")
    review = models.ForeignKey(
        Review, verbose_name=_("review"), on_delete=models.PROTECT, null=True, blank=True
    )

    objects: ClassVar[models.Manager[Finding]] = models.Manager()

    class Meta:
        verbose_name = _("finding")
        verbose_name_plural = _("findings")
        ordering = ["-happened_at", "-id"]
        permissions = [("decide_finding", "Can decide findings")]
        constraints = [
            models.UniqueConstraint(fields=["rule", "key", "number"], name="myo_review_finding"),
        ]
        indexes = [
            models.Index(fields=["happened_at", "id"], name="myo_review_time"),
            models.Index(
                fields=["rule", "opened_at"],
                condition=models.Q(state="open"),
                name="myo_review_open",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rule} of {self.happened_at:%Y-%m-%d} ({self.pk})"


class EmergencyAccess(models.Model):
    """A user's access to one data subject for some minutes, granted by themselves."""

    actor = user_field(_("user"))
    data_subject = PortableCharField(_("data subject"), max_length=100)
    reason = PortableTextField(_("reason"))
    granted_at = models.DateTimeField(_("granted at"))
    expires_at = models.DateTimeField(_("expires at"))
    finding = models.OneToOneField(
        Finding, verbose_name=_("finding"), on_delete=models.PROTECT, related_name="+"
    )
    # Set once the reviewers were notified that the finding is overdue.
    alarmed_at = models.DateTimeField(_("alarm sent at"), null=True, blank=True)

    objects: ClassVar[models.Manager[EmergencyAccess]] = models.Manager()

    class Meta:
        verbose_name = _("emergency access")
        verbose_name_plural = _("emergency accesses")
        ordering = ["-granted_at", "-id"]
        permissions = [("use_emergency_access", "Can grant themselves emergency access")]
        indexes = [
            models.Index(
                fields=["actor", "data_subject", "expires_at"], name="myo_review_emergency"
            ),
        ]

    def __str__(self) -> str:
        return f"emergency access {self.pk}"
