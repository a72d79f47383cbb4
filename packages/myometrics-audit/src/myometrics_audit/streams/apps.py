"""App configuration of streams."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class StreamsConfig(AppConfig):
    """Registers the checks, the jobs, the gauges and the examination of streams."""

    name = "myometrics_audit.streams"
    label = "myometrics_audit_streams"
    verbose_name = _("Audit streams")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from myometrics_core.conf import register_site_checks
        from myometrics_core.events import register_reserved_actions

        from .checks import register_checks
        from .doctor import register_examinations
        from .gauges import register_gauges
        from .jobs import register_jobs
        from .services import STREAM_PAUSED, STREAM_REPLAYED, STREAM_RESUMED

        register_reserved_actions(STREAM_PAUSED, STREAM_REPLAYED, STREAM_RESUMED)
        register_checks()
        register_site_checks(self, app="myometrics_audit")
        register_gauges()
        register_examinations()
        register_jobs()
