"""Celery tasks. Every task is idempotent and may run concurrently with itself."""

from __future__ import annotations

from celery import shared_task

from .delivery import message_deliver, messages_sweep
from .exports import export_files_sweep, export_generate
from .services import messages_purge

__all__ = ["deliver", "export", "purge", "sweep", "sweep_exports"]


@shared_task(
    name="myometrics_notifications.deliver", acks_late=True, soft_time_limit=120, time_limit=150
)
def deliver(message_id: int) -> None:
    """Deliver one message, if it is due and not claimed."""
    message_deliver(message_id=message_id)


@shared_task(
    name="myometrics_notifications.sweep", acks_late=True, soft_time_limit=180, time_limit=210
)
def sweep() -> int:
    """Deliver all due messages: retries, and those lost by the broker or a worker."""
    return messages_sweep()


@shared_task(
    name="myometrics_notifications.purge", acks_late=True, soft_time_limit=600, time_limit=660
)
def purge() -> int:
    """Delete finished messages after their retention."""
    return messages_purge()


@shared_task(
    name="myometrics_notifications.export", acks_late=True, soft_time_limit=1500, time_limit=1560
)
def export(export_id: int) -> None:
    """Write one export file, if it is due and not claimed."""
    export_generate(export_id=export_id)


@shared_task(
    name="myometrics_notifications.sweep_exports",
    acks_late=True,
    soft_time_limit=300,
    time_limit=330,
)
def sweep_exports() -> int:
    """Delete expired export files, and enqueue pending exports."""
    return export_files_sweep()
