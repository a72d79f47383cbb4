"""Notification settings and the outbox.

Specification: "NotificationSettings Model".
"""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from myometrics_core.db import PortableCharField

from .kinds import NotificationKind, registered_kinds


class NotificationSettings(models.Model):
    """A user's switches. Created at the first use; until then the defaults apply."""

    SWITCHES: ClassVar = ("upload_completed", "analysis_ready", "system_alerts")
    """The specification's kinds, whose switches have columns."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="myometrics_notification_settings",
        verbose_name=_("user"),
    )
    email_notifications = models.BooleanField(_("e-mail notifications"), default=True)
    upload_completed = models.BooleanField(_("completed uploads"), default=True)
    analysis_ready = models.BooleanField(_("finished analyses"), default=True)
    system_alerts = models.BooleanField(_("system alerts"), default=False)
    host_switches = models.JSONField(
        _("further switches"),
        default=dict,
        blank=True,
        help_text=_("Switches of the site's own kinds: name → true or false."),
    )

    class Meta:
        verbose_name = _("notification settings")
        verbose_name_plural = _("notification settings")

    def __str__(self) -> str:
        return f"notification settings of user {self.user_id}"

    def switch(self, kind: NotificationKind) -> bool:
        """Return whether ``kind``'s own switch is on."""
        if has_column(kind):
            return bool(getattr(self, kind.name))
        return bool(self.host_switches.get(kind.name, kind.default_on))

    def set_switch(self, kind: NotificationKind, on: bool) -> None:
        """Set ``kind``'s own switch; the caller saves."""
        if has_column(kind):
            setattr(self, kind.name, on)
        else:
            self.host_switches = {**self.host_switches, kind.name: on}


def has_column(kind: NotificationKind) -> bool:
    """Return whether the switch has its own column, as the specification's kinds have."""
    return kind.name in NotificationSettings.SWITCHES


def column_defaults() -> dict[str, bool]:
    """Return the values of a new row: column → ``default_on`` of the kind registered now.

    The columns' own defaults are those of the built-in kinds, which a site may have replaced.
    """
    return {kind.name: kind.default_on for kind in registered_kinds() if has_column(kind)}


class Message(models.Model):
    """A queued or finished mail. It contains neither an address nor a name.

    While it is queued, a job with its primary key as the key delivers it.
    """

    class State(models.TextChoices):
        """``queued`` until it ends in one of the others."""

        QUEUED = "queued", _("queued")
        SENT = "sent", _("sent")
        DROPPED = "dropped", _("dropped")
        DEAD = "dead", _("dead letter")
        SUMMARISED = "summarised", _("in a summary")

    kind = models.CharField(_("kind"), max_length=50)
    recipient = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="+",
        verbose_name=_("recipient"),
    )
    context = models.JSONField(_("context"), default=dict)
    dedupe_key = models.CharField(_("dedupe key"), max_length=64, unique=True, editable=False)
    mail_uuid = models.UUIDField(_("mail id"), default=uuid.uuid4, unique=True, editable=False)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.QUEUED)
    last_error = PortableCharField(_("last error"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    settled_at = models.DateTimeField(_("settled"), null=True)
    admitted_at = models.DateTimeField(
        _("admitted"),
        null=True,
        editable=False,
        help_text=_("When it was counted among the mails of an hour."),
    )
    summary_uuid = models.UUIDField(
        _("summary"),
        null=True,
        editable=False,
        help_text=_("Mail id of the summary it is part of."),
    )

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        indexes = [
            models.Index(fields=["state", "settled_at"], name="myo_notif_message_settled"),
            models.Index(
                fields=["recipient", "admitted_at"],
                condition=models.Q(admitted_at__isnull=False),
                name="myo_notif_message_admitted",
            ),
            models.Index(
                fields=["summary_uuid"],
                condition=models.Q(summary_uuid__isnull=False),
                name="myo_notif_message_summary",
            ),
        ]

    def __str__(self) -> str:
        return f"message {self.pk} ({self.kind})"


class ExportFile(models.Model):
    """An export that was requested as a mailed link.

    While it is queued, a job with its primary key as the key writes the file. ``user`` is null
    after the user is deleted; the next sweep deletes the file. ``storage_name`` is stored before
    the file is written, so that a crash leaves no orphaned file.
    """

    class State(models.TextChoices):
        """``queued`` until the file is written or the last attempt has failed."""

        QUEUED = "queued", _("queued")
        READY = "ready", _("ready")
        DEAD = "dead", _("failed")

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
        verbose_name=_("user"),
    )
    export_format = models.CharField(_("format"), max_length=10)
    storage_name = models.CharField(_("file"), max_length=200, unique=True, editable=False)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.QUEUED)
    last_error = PortableCharField(_("last error"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    settled_at = models.DateTimeField(_("settled"), null=True)
    expires_at = models.DateTimeField(_("expires"), null=True)

    class Meta:
        verbose_name = _("export file")
        verbose_name_plural = _("export files")
        indexes = [
            models.Index(fields=["expires_at"], name="myo_notif_export_expires"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "export_format"],
                condition=models.Q(state="queued"),
                name="myo_notif_export_one_queued",
            )
        ]

    def __str__(self) -> str:
        return f"export file {self.pk}"
