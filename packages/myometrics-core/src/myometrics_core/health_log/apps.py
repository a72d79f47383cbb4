"""App configuration of the health log."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class HealthLogConfig(AppConfig):
    """App of the health log: one row with the result of the last health check."""

    name = "myometrics_core.health_log"
    label = "myometrics_health_log"
    verbose_name = _("Health log")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from ..conf.site_checks import register_site_checks

        register_site_checks(self, app="myometrics_core")
