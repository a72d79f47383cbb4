"""Merging upload events into one fact per upload.

Merging takes the best value of each detail under a total order, so it is idempotent, commutative
and associative: events may be repeated, late or out of order.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from myometrics_core.times import utc_day

from ..models import MergedUpload, Status
from .upload_event import UploadEvent

STATUS_RANKS: Final[dict[str, int]] = {Status.PROCESSING: 0, Status.FAILED: 1, Status.COMPLETED: 2}
DETAILS: Final = ("diagnosis", "filename", "file_size", "confidence", "processing_us")


def merge(upload: MergedUpload, event: UploadEvent) -> bool:
    """Merge ``event`` into ``upload`` without saving it; return whether it changed.

    The earliest time wins; completed over failed over processing; for each detail the value of
    the highest origin, among equal origins the smallest. An event that isn't a client report
    confirms the upload.
    """
    details = {
        name: (value, int(event.origin))
        for name in DETAILS
        if (value := getattr(event, name)) is not None
    }
    changes = _better(upload, event.uploaded_at, event.status, details)
    if upload.client_only and not event.is_client_report:
        changes.update(client_only=False, over_limit=False)
    return _apply(upload, changes)


def merge_report(upload: MergedUpload, report: MergedUpload) -> bool:
    """Merge the facts of ``report``, which does not come from a client only, into ``upload``."""
    details = {
        name: (getattr(report, name), rank)
        for name in DETAILS
        if (rank := getattr(report, f"{name}_rank"))
    }
    changes = _better(upload, report.uploaded_at, report.status, details)
    if upload.client_only:
        changes.update(client_only=False, over_limit=False)
    return _apply(upload, changes)


def _better(
    upload: MergedUpload, uploaded_at: datetime, status: str, details: dict[str, tuple[Any, int]]
) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if upload.uploaded_at is None or uploaded_at < upload.uploaded_at:
        changes.update(uploaded_at=uploaded_at, day=utc_day(uploaded_at))
    if STATUS_RANKS[status] > STATUS_RANKS[upload.status]:
        changes.update(status=status)
    for name, (value, rank) in details.items():
        stored_rank = getattr(upload, f"{name}_rank")
        if rank > stored_rank or (rank == stored_rank and value < getattr(upload, name)):
            changes.update({name: value, f"{name}_rank": rank})
    return changes


def _apply(upload: MergedUpload, changes: dict[str, Any]) -> bool:
    for name, value in changes.items():
        setattr(upload, name, value)
    return bool(changes)
