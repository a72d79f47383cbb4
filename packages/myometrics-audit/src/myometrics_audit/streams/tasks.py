"""Celery tasks that send streams. Importing them needs Celery."""

from __future__ import annotations

from myometrics_core.jobs.celery_runner import celery_task

from .options import stream_names
from .services import stream_job_name

stream_tasks = {stream: celery_task(stream_job_name(stream)) for stream in stream_names()}
