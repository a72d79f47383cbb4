"""One-time tokens that have been used."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

__all__ = ["UsedToken"]


class UsedToken(models.Model):
    """The id (``jti``) of a used one-time token, stored until the token expires."""

    token_id = models.CharField(_("token id"), max_length=64, primary_key=True)
    expires_at = models.DateTimeField(_("expires"))

    class Meta:
        verbose_name = _("used token")
        verbose_name_plural = _("used tokens")
        indexes = [models.Index(fields=["expires_at"], name="mm_used_token_expires_at")]

    def __str__(self) -> str:
        return self.token_id
