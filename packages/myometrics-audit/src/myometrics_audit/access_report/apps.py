"""App configuration of access reports."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AccessReportConfig(AppConfig):
    """Reserves the actions of the report, and watches for access outside the care team."""

    name = "myometrics_audit.access_report"
    label = "myometrics_audit_access_report"
    verbose_name = _("Access reports")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from myometrics_core.events import register_receiver, register_reserved_actions

        from .outside_care_team import OPENED_OUTSIDE, WATCHED_TYPES, receive_event, receive_events
        from .report import REPORT_DENIED, REPORT_VIEWED

        register_reserved_actions(REPORT_VIEWED, REPORT_DENIED, OPENED_OUTSIDE)
        register_receiver(
            "audit access report",
            receive_event,
            resource_types=WATCHED_TYPES,
            batch_receiver=receive_events,
        )
