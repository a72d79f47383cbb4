"""Evidence about uploads, and how it is merged into one fact per upload.

Merging takes the best value of each detail under a total order, so it is idempotent, commutative
and associative: evidence may be repeated, late or out of order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Final

from myometrics_core.texts import is_finite, is_storable
from myometrics_core.times import utc_day

from .models import (
    LONGEST_DIAGNOSIS,
    LONGEST_FILENAME,
    LONGEST_UPLOAD_ID,
    MICROSECONDS,
    Status,
    Upload,
)

__all__ = [
    "Evidence",
    "Origin",
    "absorb",
    "as_confidence",
    "as_diagnosis",
    "as_file_size",
    "as_filename",
    "as_processing_us",
    "as_upload_id",
    "is_news",
]

LONGEST_PROCESSING: Final = 86_400
LARGEST_FILE: Final = 2**63 - 1
STATUS_RANKS: Final[dict[str, int]] = {Status.PROCESSING: 0, Status.FAILED: 1, Status.COMPLETED: 2}
DETAILS: Final = ("diagnosis", "filename", "file_size", "confidence", "processing_us")


class Origin(IntEnum):
    """Source of evidence; for each detail the highest origin wins."""

    IMAGE_SERVICE = 1
    PROGRESS = 2  # upload_processing, upload_failed
    CREATED = 3
    COMPLETED = 4
    ANALYSIS_READY = 5


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One source's report about one upload.

    ``user_id`` is the user's primary key in its native type, ``uploaded_at`` an aware datetime in
    UTC, ``processing_us`` in microseconds, ``file_size`` in bytes; ``None`` means not reported.
    ``is_client_report``: reported only by an API client; the daily limit applies.
    """

    user_id: Any
    upload_id: str
    uploaded_at: datetime
    status: Status
    origin: Origin
    diagnosis: str | None = None
    filename: str | None = None
    file_size: int | None = None
    confidence: float | None = None
    processing_us: int | None = None
    is_client_report: bool = False

    @property
    def key(self) -> tuple[Any, str]:
        """Unique key of the upload: user id and upload id."""
        return self.user_id, self.upload_id


def is_news(upload: Upload, evidence: Evidence) -> bool:
    """Return whether merging ``evidence`` would change ``upload``."""
    return (
        evidence.uploaded_at < upload.uploaded_at
        or STATUS_RANKS[evidence.status] > STATUS_RANKS[upload.status]
        or _confirms(upload, evidence)
        or any(_improves(upload, name, evidence) for name in DETAILS)
    )


def absorb(upload: Upload, evidence: Evidence) -> None:
    """Merge ``evidence`` into ``upload`` without saving it.

    The earliest time wins; completed over failed over processing; for each detail the value of
    the highest origin, among equal origins the smallest. Evidence that isn't a client report
    confirms the upload.
    """
    if upload.uploaded_at is None or evidence.uploaded_at < upload.uploaded_at:
        upload.uploaded_at = evidence.uploaded_at
        upload.day = utc_day(evidence.uploaded_at)
    if STATUS_RANKS[evidence.status] > STATUS_RANKS[upload.status]:
        upload.status = evidence.status
    if _confirms(upload, evidence):
        upload.client_only = upload.over_limit = False
    for name in DETAILS:
        if _improves(upload, name, evidence):
            setattr(upload, name, getattr(evidence, name))
            setattr(upload, f"{name}_rank", int(evidence.origin))


def _confirms(upload: Upload, evidence: Evidence) -> bool:
    return bool(upload.client_only) and not evidence.is_client_report


def _improves(upload: Upload, name: str, evidence: Evidence) -> bool:
    value, rank = getattr(evidence, name), getattr(upload, f"{name}_rank")
    if value is None or evidence.origin < rank:
        return False
    return evidence.origin > rank or value < getattr(upload, name)


def as_upload_id(value: Any) -> str | None:
    """Return ``value`` unchanged if it is a valid upload id, else ``None``."""
    return value if _is_text(value) and len(value) <= LONGEST_UPLOAD_ID else None


def as_diagnosis(value: Any) -> str | None:
    """Return the stripped text if it is a valid diagnosis, else ``None``."""
    return _trimmed(value, LONGEST_DIAGNOSIS)


def as_filename(value: Any) -> str | None:
    """Return the stripped text if it is a valid file name, else ``None``."""
    return _trimmed(value, LONGEST_FILENAME)


def as_processing_us(value: Any) -> int | None:
    """Convert seconds (0 to 86,400) to whole microseconds; ``None`` if invalid."""
    if not _is_number(value) or not 0 <= value <= LONGEST_PROCESSING:
        return None
    return round(value * MICROSECONDS)


def as_confidence(value: Any) -> float | None:
    """Return a fraction (0 to 1) or percentage (up to 100) unchanged; ``None`` if invalid."""
    return float(value) if _is_number(value) and 0 <= value <= 100 else None


def as_file_size(value: Any) -> int | None:
    """Return an integer number of bytes that fits the column, else ``None``."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= LARGEST_FILE else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and is_finite(value)


def _trimmed(value: Any, longest: int) -> str | None:
    text = value.strip() if _is_text(value) else None
    return text if text is not None and len(text) <= longest else None


def _is_text(value: Any) -> bool:
    """Return whether ``value`` is non-blank text that the database can store."""
    return isinstance(value, str) and bool(value.strip()) and is_storable(value)
