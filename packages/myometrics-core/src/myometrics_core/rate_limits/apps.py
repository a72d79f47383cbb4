"""App configuration of the database rate limits."""

from django.apps import AppConfig


class RateLimitsConfig(AppConfig):
    """Owns the table of counted requests."""

    name = "myometrics_core.rate_limits"
    label = "myometrics_rate_limits"
    verbose_name = "Rate limits"
    default_auto_field = "django.db.models.BigAutoField"
