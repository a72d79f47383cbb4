"""Failed sign-ins by account: the state of the login throttle."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

__all__ = ["SignInFailures"]


class SignInFailures(models.Model):
    """Failed sign-ins of one account, known or unknown. Stores a hash, never the address."""

    key = models.CharField(_("key"), max_length=64, primary_key=True)
    failures = models.PositiveIntegerField(_("failures"), default=0)
    evaluated_at = models.DateTimeField(
        _("last evaluated"),
        db_column="judged_at",
        help_text=_("When an attempt was last evaluated."),
    )

    class Meta:
        verbose_name = _("failed sign-ins")
        verbose_name_plural = _("failed sign-ins")
        indexes = [models.Index(fields=["evaluated_at"], name="mm_failures_judged_at")]

    def __str__(self) -> str:
        return f"{self.key[:8]}…: {self.failures}"
