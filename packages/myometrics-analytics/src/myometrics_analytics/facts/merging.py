"""Merging upload events into one fact per upload.

Merging takes the best value of each detail under a total order, so it is idempotent, commutative
and associative: events may be repeated, late or out of order.
"""

from __future__ import annotations

from typing import Any, Final

from myometrics_core.times import utc_day

from ..models import Status, Upload
from .upload_event import UploadEvent

STATUS_RANKS: Final[dict[str, int]] = {Status.PROCESSING: 0, Status.FAILED: 1, Status.COMPLETED: 2}
DETAILS: Final = ("diagnosis", "filename", "file_size", "confidence", "processing_us")


def merge(upload: Upload, event: UploadEvent) -> bool:
    """Merge ``event`` into ``upload`` without saving it; return whether it changed.

    The earliest time wins; completed over failed over processing; for each detail the value of
    the highest origin, among equal origins the smallest. An event that isn't a client report
    confirms the upload.
    """
    changes: dict[str, Any] = {}
    if upload.uploaded_at is None or event.uploaded_at < upload.uploaded_at:
        changes.update(uploaded_at=event.uploaded_at, day=utc_day(event.uploaded_at))
    if STATUS_RANKS[event.status] > STATUS_RANKS[upload.status]:
        changes.update(status=event.status)
    if upload.client_only and not event.is_client_report:
        changes.update(client_only=False, over_limit=False)
    for name in DETAILS:
        value, rank = getattr(event, name), getattr(upload, f"{name}_rank")
        if value is None or event.origin < rank:
            continue
        if event.origin > rank or value < getattr(upload, name):
            changes.update({name: value, f"{name}_rank": int(event.origin)})
    for name, value in changes.items():
        setattr(upload, name, value)
    return bool(changes)
