"""Celery tasks: each calls a service."""

from __future__ import annotations

from celery import shared_task

from .folding import changes_fold

__all__ = ["fold"]


@shared_task(name="myometrics_analytics.fold", acks_late=True, soft_time_limit=240, time_limit=300)
def fold() -> int:
    """Fold pending changes into the rollups; the number of changes folded."""
    return changes_fold()
