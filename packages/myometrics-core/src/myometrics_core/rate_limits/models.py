"""Model of counted requests."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class CountedRequest(models.Model):
    """One request within the window of its rate limit; deleted after the window."""

    key = models.CharField(
        _("key"), max_length=255, help_text=_("Rate, bucket and a keyed hash of whom.")
    )
    counted_at = models.FloatField(_("counted at"), help_text=_("Seconds since the epoch."))
    expires_at = models.FloatField(
        _("expires at"), db_index=True, help_text=_("Seconds since the epoch.")
    )

    class Meta:
        verbose_name = _("counted request")
        verbose_name_plural = _("counted requests")
        indexes = [models.Index(fields=["key", "counted_at"], name="myometrics_rate_key_at")]

    def __str__(self) -> str:
        return self.key
