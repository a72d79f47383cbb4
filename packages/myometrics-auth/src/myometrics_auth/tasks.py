"""Celery tasks that run auth's jobs. Only imported where Celery is installed."""

from __future__ import annotations

from celery import shared_task

from myometrics_core.jobs import run_jobs
from myometrics_core.jobs.celery_runner import celery_task

from .jobs import (
    SendEmailChange,
    SendEmailUndo,
    SendInvitation,
    SendPasswordReset,
    SendSecurityNotice,
    SendVerification,
    Sweep,
)

send_email_change = celery_task(SendEmailChange.name)
send_email_undo = celery_task(SendEmailUndo.name)
send_invitation = celery_task(SendInvitation.name)
send_verification = celery_task(SendVerification.name)
send_password_reset = celery_task(SendPasswordReset.name)
send_security_notice = celery_task(SendSecurityNotice.name)
sweep = celery_task(Sweep.name)


@shared_task(name="myometrics_auth.sweep_password_resets", time_limit=90)
def sweep_password_resets() -> None:
    """Send pending reset mails; for schedules that were written for release 0.1."""
    run_jobs(SendPasswordReset.name)
