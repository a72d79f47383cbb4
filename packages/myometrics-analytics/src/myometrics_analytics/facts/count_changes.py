"""Differences of the counts, recorded as pending changes."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Any

from ..models import PendingChange, Upload

__all__ = ["CountChanges"]

Place = tuple[date, str, str, Any]


class CountChanges:
    """Sums the changes of the counts within one transaction."""

    def __init__(self) -> None:
        self.uploads: Counter[Place] = Counter()
        self.processing_us: Counter[Place] = Counter()
        self.processed: Counter[Place] = Counter()

    def add(self, upload: Upload, sign: int = 1) -> None:
        """Add ``upload`` (``sign`` -1: subtract it), unless it is over the daily limit."""
        if upload.over_limit:
            return
        place = (upload.day, upload.diagnosis, str(upload.status), upload.user_id)
        self.uploads[place] += sign
        if upload.processing_us is not None:
            self.processing_us[place] += sign * upload.processing_us
            self.processed[place] += sign

    def write(self) -> None:
        """Insert the non-zero differences as :class:`PendingChange` rows."""
        changes = [
            PendingChange(
                day=day,
                diagnosis=diagnosis,
                status=status,
                user_id=user_id,
                uploads=uploads,
                processing_us=self.processing_us[day, diagnosis, status, user_id],
                processed=self.processed[day, diagnosis, status, user_id],
            )
            for (day, diagnosis, status, user_id), uploads in self.uploads.items()
        ]
        PendingChange.objects.bulk_create(
            (row for row in changes if row.uploads or row.processing_us or row.processed),
            batch_size=1000,
        )
