"""Core's own recurring jobs: the health check, and the removal of old dead jobs."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.apps import apps

from .db.transactions import DATABASE_FAILURES
from .health.report import check_health
from .jobs.kinds import JobKind, daily, every, register_job_kind
from .jobs.models import Job
from .observability.gauges import HEALTH_LOG
from .times import utc_now

logger = logging.getLogger("myometrics.core.health")


class CheckHealth(JobKind):
    """Run every health probe and log the status; with the health log, record it as well."""

    name = "myometrics_core.check_health"
    schedule = every(timedelta(seconds=20))
    lease = timedelta(seconds=40)

    def run(self, job: Job) -> None:
        report = check_health(max_age=0)
        logger.info("Health: %s", report.status, extra={"services": report.services})
        if not apps.is_installed(HEALTH_LOG):
            return
        from .health_log.services import health_record  # noqa: PLC0415  (the app is optional)

        try:
            health_record(report=report)
        except DATABASE_FAILURES as error:
            # Later checks record and publish the change.
            logger.error("Health could not be recorded: %s", type(error).__name__)


class PurgeJobs(JobKind):
    """Delete dead jobs after 30 days."""

    name = "myometrics_core.purge_jobs"
    schedule = daily(2, 41)
    retention = timedelta(days=30)

    def run(self, job: Job) -> None:
        Job.objects.dead().filter(run_at__lt=utc_now() - self.retention).delete()


def register_recurring_jobs() -> None:
    """Register the kinds."""
    register_job_kind(CheckHealth())
    register_job_kind(PurgeJobs())
