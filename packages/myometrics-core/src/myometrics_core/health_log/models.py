"""Model of the health log: the last health check, and the published state."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class HealthState(models.Model):
    """The single row (key 1) that all workers share.

    ``services``: name → state at the last check. ``told_down``: names of the services last
    published as down. ``differs_since``: name → ISO 8601 time since which the state differs from
    the published one; removed when the change is published or reverted.
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
