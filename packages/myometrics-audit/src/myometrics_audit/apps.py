"""The app ``myometrics_audit``."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AuditConfig(AppConfig):
    """Connects the audit log to core's event bus and registries, and guards its tables."""

    name = "myometrics_audit"
    verbose_name = _("Audit log")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register settings, checks, metrics, jobs, the receiver, the replay and personal data."""
        from myometrics_core.conf import register_settings, register_site_checks
        from myometrics_core.events import (
            register_receiver,
            register_recorded_reads,
            register_reserved_actions,
            register_source,
        )
        from myometrics_core.personal_data import register_personal_data

        from . import checks, personal_data, receivers
        from .conf import audit_settings
        from .doctor import register_examinations
        from .gauges import register_gauges
        from .log import events
        from .sealing.jobs import register_jobs
        from .tracking.declarations import reserve_recorded_actions

        register_settings(audit_settings)
        checks.register_checks()
        register_site_checks(self)
        register_gauges()
        register_examinations()
        register_jobs()
        register_receiver(
            "audit",
            receivers.receive_event,
            except_sources=(events.SOURCE,),
            batch_receiver=receivers.receive_events,
        )
        register_source("audit", events.events_replay)
        register_personal_data(personal_data.AuditLogsSection())
        reserve_recorded_actions()
        register_reserved_actions("audit_log_read", "log_imported")
        register_recorded_reads(lambda: audit_settings.RECORD_READS)
        receivers.connect(self)
