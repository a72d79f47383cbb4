"""How the system did at the last check, and what has been told of it."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

__all__ = ["HealthState"]


class HealthState(models.Model):
    """The one row (key 1) that all workers share.

    ``services``: name → state at the last check. ``told_down``: names of the services that were
    last published as down. ``differs_since``: name → ISO 8601, for services that do otherwise
    than was told, until that has lasted long enough to be told or has passed.
    """

    checked_at = models.DateTimeField(_("checked at"), null=True)
    status = models.CharField(_("status"), max_length=10, default="healthy")
    services = models.JSONField(_("services"), default=dict)
    told_down = models.JSONField(_("told down"), default=list)
    differs_since = models.JSONField(_("differs since"), default=dict)

    class Meta:
        verbose_name = verbose_name_plural = _("health state")

    def __str__(self) -> str:
        return f"{self.status} at {self.checked_at}"
