"""An event of an upload, and the validation of its values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Final

from myometrics_core.texts import is_finite, is_storable

from ..models import MAX_UPLOAD_ID_LENGTH, MICROSECONDS, Status

MAX_PROCESSING_SECONDS: Final = 86_400
MAX_FILE_SIZE: Final = 2**63 - 1
UploadKey = tuple[Any, str]


class Origin(IntEnum):
    """Source of an upload event; for each detail the highest origin wins."""

    IMAGE_SERVICE = 1
    PROGRESS = 2  # upload_processing, upload_failed
    CREATED = 3
    COMPLETED = 4
    ANALYSIS_READY = 5


@dataclass(frozen=True, kw_only=True)
class UploadEvent:
    """One source's report about one upload.

    ``user_id`` is the user's primary key in its native type, ``uploaded_at`` an aware datetime in
    UTC, ``processing_us`` in microseconds, ``file_size`` in bytes; ``None`` means not reported.
    ``is_client_report``: reported only by an API client; the daily limit applies.

    ``address``: an e-mail address by which the source names the user. It counts if no user has
    ``user_id``: the event then belongs to the owner of the address at ``uploaded_at``, whose
    ``ownership`` the merge fills in.
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
    address: str = ""
    ownership: str = ""

    @property
    def key(self) -> UploadKey:
        """Unique key of the upload: user id and upload id."""
        return self.user_id, self.upload_id


def as_upload_id(value: Any) -> str | None:
    """Return ``value`` unchanged if it is a valid upload id, else ``None``."""
    is_valid = as_text(value, MAX_UPLOAD_ID_LENGTH) and len(value) <= MAX_UPLOAD_ID_LENGTH
    return value if is_valid else None


def as_text(value: Any, max_length: int) -> str | None:
    """Return the stripped text if it is valid and within ``max_length``, else ``None``.

    Valid is non-blank text that the database can store.
    """
    if not (isinstance(value, str) and is_storable(value)):
        return None
    text = value.strip()
    return text if text and len(text) <= max_length else None


def as_processing_us(value: Any) -> int | None:
    """Convert seconds (0 to 86,400) to whole microseconds; ``None`` if invalid."""
    is_valid = _is_number(value) and 0 <= value <= MAX_PROCESSING_SECONDS
    return round(value * MICROSECONDS) if is_valid else None


def as_confidence(value: Any) -> float | None:
    """Return a fraction (0 to 1) or percentage (up to 100) unchanged; ``None`` if invalid."""
    return float(value) if _is_number(value) and 0 <= value <= 100 else None


def as_file_size(value: Any) -> int | None:
    """Return an integer number of bytes that fits the column, else ``None``."""
    is_valid = _is_number(value) and isinstance(value, int) and 0 <= value <= MAX_FILE_SIZE
    return value if is_valid else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and is_finite(value)
