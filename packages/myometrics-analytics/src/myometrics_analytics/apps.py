"""App configuration."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from myometrics_core.conf import register_settings

__all__ = ["AnalyticsConfig"]


class AnalyticsConfig(AppConfig):
    """Upload facts, their rollups and the endpoints based on them."""

    name = "myometrics_analytics"
    verbose_name = _("Analytics")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from myometrics_core.conf import register_site_checks
        from myometrics_core.personal_data import register_personal_data

        from . import checks
        from .conf import analytics_settings
        from .doctor import register_examinations
        from .facts.receivers import connect_receivers
        from .gauges import register_gauges
        from .personal_data import UploadsSection
        from .recurring_jobs import register_recurring_jobs
        from .rollups.rebuild_hint import connect_hint

        register_settings(analytics_settings)
        checks.register_checks()
        register_site_checks(self, time_zone_id="E010")
        register_personal_data(UploadsSection())
        connect_receivers()
        connect_hint(self)
        register_recurring_jobs()
        register_gauges()
        register_examinations()
