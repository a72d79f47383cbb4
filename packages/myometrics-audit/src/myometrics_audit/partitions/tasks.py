"""Celery tasks of the jobs. Importing them needs Celery."""

from __future__ import annotations

from myometrics_core.jobs.celery_runner import celery_task

from .jobs import PARTITIONS_JOB
from .removed_activities import REMOVED_ACTIVITIES_JOB

partitions = celery_task(PARTITIONS_JOB)
removed_activities = celery_task(REMOVED_ACTIVITIES_JOB)
