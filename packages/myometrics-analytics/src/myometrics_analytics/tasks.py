"""Celery tasks; each calls one service."""

from __future__ import annotations

from celery import shared_task

from .pull.pulling import uploads_pull
from .pull.upload_sources import SourceUnavailable
from .rollups.folding import changes_fold
from .rollups.self_check import rollups_check

__all__ = ["check", "fold", "pull"]


@shared_task(name="myometrics_analytics.fold", acks_late=True, soft_time_limit=240, time_limit=300)
def fold() -> int:
    """Fold pending changes into the rollups; return the number of folded changes."""
    return changes_fold()


@shared_task(name="myometrics_analytics.pull", acks_late=True, soft_time_limit=840, time_limit=900)
def pull() -> int | None:
    """Pull from the image service if due; return the number of rows, ``None`` if not pulled.

    A failure is logged and stored with its back-off; a later scheduled run retries.
    """
    try:
        report = uploads_pull()
    except SourceUnavailable:
        return None
    return report.rows if report else None


@shared_task(
    name="myometrics_analytics.check", acks_late=True, soft_time_limit=1680, time_limit=1800
)
def check() -> int:
    """Compare the rollups with the facts; return the number of repairs."""
    return rollups_check()
