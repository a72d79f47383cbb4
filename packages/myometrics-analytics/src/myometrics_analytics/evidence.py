"""What a source says of an upload, and how its sayings are merged into one fact.

Merging takes the best of each detail under a total order, so it is idempotent, commutative and
associative: evidence may come twice, late or in any order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Final

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
    """Where evidence comes from; the higher, the more it counts for each detail."""

    IMAGE_SERVICE = 1
    PROGRESS = 2  # upload_processing, upload_failed
    CREATED = 3
    COMPLETED = 4
    ANALYSIS_READY = 5


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One source's word on one upload.

    ``user_id`` is the person's primary key in its native type, ``uploaded_at`` aware, in UTC,
    ``processing_us`` in microseconds, ``file_size`` in bytes; ``None``: it doesn't say.
    ``is_client_report``: only a client of the API claims it; the daily limit applies.
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
        """What makes an upload unique: the person and the upload id."""
        return self.user_id, self.upload_id


def is_news(upload: Upload, evidence: Evidence) -> bool:
    """Whether ``evidence`` would change ``upload``."""
    return (
        evidence.uploaded_at < upload.uploaded_at
        or STATUS_RANKS[evidence.status] > STATUS_RANKS[upload.status]
        or _confirms(upload, evidence)
        or any(_improves(upload, name, evidence) for name in DETAILS)
    )


def absorb(upload: Upload, evidence: Evidence) -> None:
    """Merge ``evidence`` into ``upload``, which is not saved.

    The earliest time; completed over failed over processing; of each detail the one of the
    highest origin, among equals the smallest. Anything but a client's report confirms the upload.
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
    """Text that can be an upload id, as it is, else ``None``."""
    return value if _is_text(value) and len(value) <= LONGEST_UPLOAD_ID else None


def as_diagnosis(value: Any) -> str | None:
    """Text that can be a diagnosis, trimmed, else ``None``."""
    return _trimmed(value, LONGEST_DIAGNOSIS)


def as_filename(value: Any) -> str | None:
    """Text that can be the name of a file, trimmed, else ``None``."""
    return _trimmed(value, LONGEST_FILENAME)


def as_processing_us(value: Any) -> int | None:
    """Seconds from 0 to a day as whole microseconds, else ``None``."""
    if not _is_number(value) or not 0 <= value <= LONGEST_PROCESSING:
        return None
    return round(value * MICROSECONDS)


def as_confidence(value: Any) -> float | None:
    """A share (0 to 1) or a percentage (to 100) as it is, else ``None``."""
    return float(value) if _is_number(value) and 0 <= value <= 100 else None


def as_file_size(value: Any) -> int | None:
    """A whole number of bytes that a database can keep, else ``None``."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= LARGEST_FILE else None


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)


def _trimmed(value: Any, longest: int) -> str | None:
    text = value.strip() if _is_text(value) else None
    return text if text is not None and len(text) <= longest else None


def _is_text(value: Any) -> bool:
    """Whether it is text that a database can keep, and not blank."""
    return (
        isinstance(value, str)
        and bool(value.strip())
        and "\x00" not in value
        and _is_encodable(value)
    )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
