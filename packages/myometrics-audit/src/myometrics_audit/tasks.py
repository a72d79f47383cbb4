"""Celery tasks, which run the jobs of the same names. Importing them needs Celery."""

from __future__ import annotations

from myometrics_core.jobs.celery_runner import celery_task

seal = celery_task("myometrics_audit.seal")
anchor = celery_task("myometrics_audit.anchor")
