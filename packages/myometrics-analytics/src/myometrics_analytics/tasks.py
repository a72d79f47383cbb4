"""Celery tasks that run the recurring jobs; only for sites with ``JOB_RUNNER`` ``celery``."""

from __future__ import annotations

from myometrics_core.jobs.celery_runner import celery_task

check = celery_task("myometrics_analytics.check")
fold = celery_task("myometrics_analytics.fold")
pull = celery_task("myometrics_analytics.pull")
pull_all = celery_task("myometrics_analytics.pull_all")
