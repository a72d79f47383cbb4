"""Celery tasks that run the jobs of identity providers. Only imported where Celery is installed."""

from __future__ import annotations

from myometrics_core.jobs.celery_runner import celery_task

from .jobs import SendLinkMail, SweepFederation

send_link_mail = celery_task(SendLinkMail.name)
sweep_federation = celery_task(SweepFederation.name)
