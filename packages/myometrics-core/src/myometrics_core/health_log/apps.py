"""App configuration of the health log."""

from django.apps import AppConfig


class HealthLogConfig(AppConfig):
    """Owns the one row that remembers how the system did at the last check."""

    name = "myometrics_core.health_log"
    label = "myometrics_health_log"
    verbose_name = "Health log"
    default_auto_field = "django.db.models.BigAutoField"
