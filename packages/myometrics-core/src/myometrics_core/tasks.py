"""Core's periodic work."""

from __future__ import annotations

import logging

from celery import shared_task
from django.apps import apps

from .health import HealthReport
from .health import check_health as ask_everything
from .transactions import DATABASE_FAILURES

__all__ = ["check_health"]

logger = logging.getLogger("myometrics.core.health")

HEALTH_LOG = "myometrics_core.health_log"


@shared_task(name="myometrics_core.check_health", acks_late=True, soft_time_limit=30, time_limit=40)
def check_health() -> str:
    """Ask every dependency, log the result and, with the health log installed, record it there
    and publish what has changed. Returns the status.
    """
    report = ask_everything(max_age=0)
    logger.info("Health: %s", report.status, extra={"services": report.services})
    if apps.is_installed(HEALTH_LOG):
        _record(report)
    return report.status


def _record(report: HealthReport) -> None:
    from .health_log.services import health_record  # noqa: PLC0415  (its model may be absent)

    try:
        health_record(report=report)
    except DATABASE_FAILURES as error:
        # What is told of it afterwards is told by the checks that follow.
        logger.error("Health could not be recorded: %s", type(error).__name__)
