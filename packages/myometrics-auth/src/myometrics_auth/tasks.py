"""Celery tasks. Arguments are ids, and every task is idempotent."""

from __future__ import annotations

from celery import shared_task

from .services.login_throttle import login_throttle_sweep
from .services.reset_mails import reset_mail_send, reset_mails_sweep
from .services.sessions import sessions_sweep
from .services.used_tokens import used_tokens_sweep

__all__ = ["send_password_reset", "sweep", "sweep_password_resets"]


@shared_task(
    name="myometrics_auth.send_password_reset", acks_late=True, time_limit=90, soft_time_limit=60
)
def send_password_reset(request_id: int) -> None:
    """Mail the link of one reset request; the sweep retries after a failure."""
    reset_mail_send(request_id=request_id)


@shared_task(
    name="myometrics_auth.sweep_password_resets", acks_late=True, time_limit=90, soft_time_limit=60
)
def sweep_password_resets() -> None:
    """Enqueue reset requests that are still pending."""
    reset_mails_sweep()


@shared_task(name="myometrics_auth.sweep", acks_late=True, time_limit=900, soft_time_limit=840)
def sweep() -> None:
    """Delete sessions past their retention, expired failed sign-ins and expired used tokens."""
    sessions_sweep()
    login_throttle_sweep()
    used_tokens_sweep()
