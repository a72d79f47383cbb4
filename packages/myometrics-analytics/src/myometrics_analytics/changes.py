"""Differences of the counts, recorded as pending changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from .models import PendingChange, Upload

__all__ = ["ChangeSheet"]

Place = tuple[date, str, str, Any]


@dataclass
class ChangeSheet:
    """Sums the changes of the counts within one transaction."""

    uploads: Counter[Place] = field(default_factory=Counter)
    processing_us: Counter[Place] = field(default_factory=Counter)
    processed: Counter[Place] = field(default_factory=Counter)

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
        PendingChange.objects.bulk_create(self._changes(), batch_size=1000)

    def _changes(self) -> Iterable[PendingChange]:
        for place in self.uploads:
            day, diagnosis, status, user_id = place
            change = PendingChange(
                day=day,
                diagnosis=diagnosis,
                status=status,
                user_id=user_id,
                uploads=self.uploads[place],
                processing_us=self.processing_us[place],
                processed=self.processed[place],
            )
            if change.uploads or change.processing_us or change.processed:
                yield change
