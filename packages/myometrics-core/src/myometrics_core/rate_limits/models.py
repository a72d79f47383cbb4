"""The table of counted requests."""

from __future__ import annotations

from django.db import models

__all__ = ["CountedRequest"]


class CountedRequest(models.Model):
    """One request within the window of its rate; swept when the window has passed."""

    key = models.CharField(max_length=255, help_text="Rate, bucket and a keyed hash of whom.")
    counted_at = models.FloatField(help_text="Seconds since the epoch.")
    expires_at = models.FloatField(db_index=True, help_text="Seconds since the epoch.")

    class Meta:
        indexes = [models.Index(fields=["key", "counted_at"], name="myometrics_rate_key_at")]

    def __str__(self) -> str:
        return self.key
