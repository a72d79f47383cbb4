"""Background work. Every task can run twice, or at the same time as itself."""

from __future__ import annotations

from celery import shared_task

from .delivery import message_deliver, messages_sweep
from .services import messages_purge

__all__ = ["deliver", "purge", "sweep"]


@shared_task(
    name="myometrics_notifications.deliver", acks_late=True, soft_time_limit=120, time_limit=150
)
def deliver(message_id: int) -> None:
    """Deliver one message, if it is due and nobody else is at it."""
    message_deliver(message_id=message_id)


@shared_task(
    name="myometrics_notifications.sweep", acks_late=True, soft_time_limit=180, time_limit=210
)
def sweep() -> int:
    """Deliver whatever is due: retries, and what a dead broker or worker left behind."""
    return messages_sweep()


@shared_task(
    name="myometrics_notifications.purge", acks_late=True, soft_time_limit=600, time_limit=660
)
def purge() -> int:
    """Delete settled messages after their time."""
    return messages_purge()
