"""Merging upload events into one fact per upload.

Merging takes the best value of each detail under a total order, so it is idempotent, commutative
and associative: events may be repeated, late or out of order.
"""

from __future__ import annotations

from typing import Final

from myometrics_core.times import utc_day

from ..models import Status, Upload
from .upload_event import UploadEvent

__all__ = ["merge", "would_change"]

STATUS_RANKS: Final[dict[str, int]] = {Status.PROCESSING: 0, Status.FAILED: 1, Status.COMPLETED: 2}
DETAILS: Final = ("diagnosis", "filename", "file_size", "confidence", "processing_us")


def would_change(upload: Upload, event: UploadEvent) -> bool:
    """Return whether merging ``event`` would change ``upload``."""
    return (
        event.uploaded_at < upload.uploaded_at
        or STATUS_RANKS[event.status] > STATUS_RANKS[upload.status]
        or _confirms(upload, event)
        or any(_improves(upload, name, event) for name in DETAILS)
    )


def merge(upload: Upload, event: UploadEvent) -> None:
    """Merge ``event`` into ``upload`` without saving it.

    The earliest time wins; completed over failed over processing; for each detail the value of
    the highest origin, among equal origins the smallest. An event that isn't a client report
    confirms the upload.
    """
    if upload.uploaded_at is None or event.uploaded_at < upload.uploaded_at:
        upload.uploaded_at = event.uploaded_at
        upload.day = utc_day(event.uploaded_at)
    if STATUS_RANKS[event.status] > STATUS_RANKS[upload.status]:
        upload.status = event.status
    if _confirms(upload, event):
        upload.client_only = upload.over_limit = False
    for name in DETAILS:
        if _improves(upload, name, event):
            setattr(upload, name, getattr(event, name))
            setattr(upload, f"{name}_rank", int(event.origin))


def _confirms(upload: Upload, event: UploadEvent) -> bool:
    return bool(upload.client_only) and not event.is_client_report


def _improves(upload: Upload, name: str, event: UploadEvent) -> bool:
    value, rank = getattr(event, name), getattr(upload, f"{name}_rank")
    if value is None or event.origin < rank:
        return False
    return event.origin > rank or value < getattr(upload, name)
