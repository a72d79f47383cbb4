"""Core's periodic tasks."""

from __future__ import annotations

import logging

from celery import shared_task
from django.apps import apps

from .db.transactions import DATABASE_FAILURES
from .health.report import HealthReport
from .health.report import check_health as ask_everything

__all__ = ["check_health"]

logger = logging.getLogger("myometrics.core.health")

HEALTH_LOG = "myometrics_core.health_log"


@shared_task(name="myometrics_core.check_health", acks_late=True, soft_time_limit=30, time_limit=40)
def check_health() -> str:
    """Run every health probe, log the result and return the status.

    With the health log installed, also record the result and publish changes.
    """
    report = ask_everything(max_age=0)
    logger.info("Health: %s", report.status, extra={"services": report.services})
    if apps.is_installed(HEALTH_LOG):
        _record(report)
    return report.status


def _record(report: HealthReport) -> None:
    from .health_log.services import health_record  # noqa: PLC0415  (the app is optional)

    try:
        health_record(report=report)
    except DATABASE_FAILURES as error:
        # Later checks record and publish the change.
        logger.error("Health could not be recorded: %s", type(error).__name__)
