"""Pending password reset requests."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from myometrics_core.db import PortableCharField
from myometrics_core.times import utc_now

__all__ = ["PasswordResetRequest"]


class PasswordResetRequest(models.Model):
    """A requested reset for a known or unknown address; deleted once processed."""

    email_canonical = PortableCharField(_("email canonical"), max_length=512)
    created_at = models.DateTimeField(_("created at"), default=utc_now, editable=False)
    claimed_at = models.DateTimeField(_("claimed at"), null=True, blank=True)

    class Meta:
        verbose_name = _("password reset request")
        verbose_name_plural = _("password reset requests")
        indexes = [models.Index(fields=["created_at"], name="mm_reset_created_at")]

    def __str__(self) -> str:
        return f"{self.pk}"
