"""Celery tasks: the health check of the specification, and the look for due jobs."""

from __future__ import annotations

from celery import shared_task

from .jobs import celery_runner
from .jobs.celery_runner import celery_task

check_health = celery_task("myometrics_core.check_health")
purge_jobs = celery_task("myometrics_core.purge_jobs")


@shared_task(name="myometrics_core.run_jobs", soft_time_limit=30, time_limit=40)
def run_jobs() -> list[str]:
    """Send the task of each kind with due jobs; return their names."""
    return celery_runner.run_due_jobs()
