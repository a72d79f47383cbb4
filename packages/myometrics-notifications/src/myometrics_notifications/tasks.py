"""Celery tasks. Each runs jobs: one by its key, or without an argument all that are due."""

from __future__ import annotations

from celery import shared_task

from myometrics_core.jobs import run_jobs
from myometrics_core.jobs.celery_runner import celery_task

from .exports import EXPORT, SWEEP_EXPORTS
from .services import DELIVER

deliver = celery_task(DELIVER)
export = celery_task(EXPORT)
purge = celery_task("myometrics_notifications.purge")
sweep_exports = celery_task(SWEEP_EXPORTS)


@shared_task(
    name="myometrics_notifications.sweep", acks_late=True, soft_time_limit=180, time_limit=210
)
def sweep() -> int:
    """Deliver all due messages: ``deliver`` without an argument, under its name of version 0.1."""
    return run_jobs(DELIVER)
