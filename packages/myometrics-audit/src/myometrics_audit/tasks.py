"""Background tasks of audit."""

from __future__ import annotations

from celery import shared_task

from .sealing.seals import SealProgress, seal_pending

__all__ = ["seal"]


@shared_task(name="myometrics_audit.seal", acks_late=True, time_limit=600, soft_time_limit=540)
def seal() -> int:
    """Seal pending leaves, one sealer at a time; return the number of sealed leaves."""
    progress = SealProgress(seals=0, leaves=0, number=None)
    for progress in seal_pending():  # noqa: B007
        pass
    return progress.leaves
