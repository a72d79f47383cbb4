"""Background work of audit."""

from __future__ import annotations

from celery import shared_task

from .seals import SealProgress, seal_pending

__all__ = ["seal"]


@shared_task(name="myometrics_audit.seal", acks_late=True, time_limit=600, soft_time_limit=540)
def seal() -> int:
    """Seal what waits; only one sealer works at a time. Returns how many leaves were sealed."""
    progress = SealProgress(seals=0, leaves=0, number=None)
    for progress in seal_pending():  # noqa: B007
        pass
    return progress.leaves
