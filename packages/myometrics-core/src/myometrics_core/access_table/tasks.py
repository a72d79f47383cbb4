"""Periodic tasks of the access table."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task

from ..settings import core_settings
from ..times import utc_now
from .services import accesses_purge_chunk

__all__ = ["purge_accesses"]

CHUNK = 5000


@shared_task(
    name="myometrics_core.purge_accesses", acks_late=True, soft_time_limit=540, time_limit=600
)
def purge_accesses() -> int:
    """Delete accesses older than ``ACCESS_TABLE_KEEP_DAYS``, in chunks; return the number deleted.

    If the time limit ends a run early, the next run continues.
    """
    before = utc_now() - timedelta(days=core_settings.ACCESS_TABLE_KEEP_DAYS)
    removed = 0
    while chunk := accesses_purge_chunk(before=before, limit=CHUNK):
        removed += chunk
    return removed
