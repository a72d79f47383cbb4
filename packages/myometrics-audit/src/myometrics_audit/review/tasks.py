"""Celery tasks of the review's jobs. Importing them needs Celery."""

from __future__ import annotations

from myometrics_core.jobs.celery_runner import celery_task

from .jobs import ALARM_JOB, DIGEST_JOB, SCAN_JOB
from .mails import REVIEW_MAIL_JOB

scan = celery_task(SCAN_JOB)
alarm = celery_task(ALARM_JOB)
digest = celery_task(DIGEST_JOB)
mail = celery_task(REVIEW_MAIL_JOB)
