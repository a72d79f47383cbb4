"""Celery task that publishes checkpoints. Importing it needs Celery."""

from __future__ import annotations

from myometrics_core.jobs.celery_runner import celery_task

from .jobs import CHECKPOINT_JOB

publish_checkpoints = celery_task(CHECKPOINT_JOB)
