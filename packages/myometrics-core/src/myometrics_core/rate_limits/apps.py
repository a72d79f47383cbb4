"""App configuration of the database rate limits."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RateLimitsConfig(AppConfig):
    """App of the table of counted requests."""

    name = "myometrics_core.rate_limits"
    label = "myometrics_rate_limits"
    verbose_name = _("Rate limits")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from ..conf.site_checks import register_site_checks

        register_site_checks(self, app="myometrics_core", needs_times=False)
