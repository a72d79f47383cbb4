"""Celery task of the job. Importing it needs Celery."""

from __future__ import annotations

from myometrics_core.jobs.celery_runner import celery_task

from .jobs import PARTITIONS_JOB

partitions = celery_task(PARTITIONS_JOB)
