"""App configuration of partitions."""

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class PartitionsConfig(AppConfig):
    """Registers the checks, the job, the gauges, the examination, and what the log looks up."""

    name = "myometrics_audit.partitions"
    label = "myometrics_audit_partitions"
    verbose_name = _("Partitions of the audit log")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from myometrics_core.conf import register_site_checks
        from myometrics_core.jobs import register_job_kind

        from ..log.activities import register_activity_lookup
        from ..log.closed_ranges import register_closed_ranges
        from ..sealing.seals import register_seal_job
        from .checks import register_checks
        from .doctor import register_examinations
        from .fixtures import connect_fixtures
        from .gauges import register_gauges
        from .jobs import PARTITIONS_JOB, MaintainPartitions, are_partitions_missing
        from .recorded_activities import find_recorded
        from .removed_activities import DeleteRemovedActivities
        from .selectors import closed_partitions

        register_checks()
        register_site_checks(self, app="myometrics_audit")
        register_gauges()
        register_examinations()
        register_job_kind(MaintainPartitions())
        register_job_kind(DeleteRemovedActivities())
        register_seal_job(PARTITIONS_JOB, are_partitions_missing)
        register_activity_lookup(find_recorded)
        register_closed_ranges(closed_partitions)
        connect_fixtures()
        post_migrate.connect(_migrated, sender=self, dispatch_uid="myometrics_audit:partitions")


def _migrated(using: str, **kwargs: Any) -> None:
    from .triggers import restore_partitions

    restore_partitions(using)
