"""Sign-ins as rows: what makes a token revocable."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from myometrics_core.times import utc_now

__all__ = ["Session", "SessionQuerySet"]


class SessionQuerySet(models.QuerySet["Session"]):
    """Sessions, and what one does with many of them."""

    def live(self) -> SessionQuerySet:
        """Those that are neither ended nor expired."""
        return self.filter(ended_at=None, expires_at__gt=utc_now())

    def over(self) -> SessionQuerySet:
        """Those that are ended or expired."""
        return self.filter(models.Q(ended_at__isnull=False) | models.Q(expires_at__lte=utc_now()))

    def but(self, session: Session | None) -> SessionQuerySet:
        """Those other than ``session``; all without one."""
        return self if session is None else self.exclude(pk=session.pk)

    def end(self) -> int:
        """End those that are not ended yet; how many there were."""
        return self.filter(ended_at=None).update(ended_at=utc_now())


class Session(models.Model):
    """One sign-in of one person, on one device. Its id is the ``sid`` claim of its tokens."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="sessions",
        verbose_name=_("user"),
    )
    created_at = models.DateTimeField(_("signed in"), default=utc_now, editable=False)
    refreshed_at = models.DateTimeField(_("last seen"), default=utc_now)
    expires_at = models.DateTimeField(_("expires"))
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    address = models.GenericIPAddressField(_("address"), null=True, blank=True)
    user_agent = models.CharField(_("device"), max_length=512, blank=True)
    second_factor = models.BooleanField(_("with a second factor"), default=False)

    objects = SessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        indexes = [
            models.Index(fields=["expires_at"], name="mm_session_expires_at"),
            models.Index(fields=["ended_at"], name="mm_session_ended_at"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.user_agent or '–'}"

    @property
    def is_live(self) -> bool:
        """Whether tokens of this session are good."""
        return self.ended_at is None and self.expires_at > utc_now()
