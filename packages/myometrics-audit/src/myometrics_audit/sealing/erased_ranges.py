"""Erasures of all entries in a range of ids: their leaves don't refer to them.

A partition is dropped at once; an update of the leaves of its entries would take hours.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import models

from myometrics_core.db import read_in_batches

from ..log.models import AuditLog, Erasure, Leaf


@dataclass(frozen=True)
class ErasedRange:
    """The entries from ``first_id`` up to, but not including, ``end_id``, except those ``kept``.

    Entries whose leaf refers to an erasure of its own were erased before.
    """

    first_id: int
    end_id: int
    kept: frozenset[int]
    erasure_id: UUID | None = None
    entries: int = 0

    def contains(self, entry_id: int) -> bool:
        """Return whether the entry with this id was erased, if it existed."""
        return self.first_id <= entry_id < self.end_id and entry_id not in self.kept

    def leaves(self, using: str) -> models.QuerySet[Leaf]:
        """Return the leaves of the erased entries."""
        leaves = Leaf.objects.using(using).filter(
            entry_id__gte=self.first_id, entry_id__lt=self.end_id, erasure_id=None
        )
        return leaves.exclude(entry_id__in=self.kept) if self.kept else leaves

    def rows(self, using: str) -> models.QuerySet[AuditLog]:
        """Return the entries that exist in the range, except those that are kept."""
        entries = AuditLog._base_manager.using(using).order_by()
        entries = entries.filter(pk__gte=self.first_id, pk__lt=self.end_id)
        return entries.exclude(pk__in=self.kept) if self.kept else entries

    def details(self) -> dict[str, Any]:
        """Return the range as it is stored in the details of its erasure."""
        kept = sorted(self.kept)
        return {"first_id": self.first_id, "end_id": self.end_id, "kept": kept}


class ErasedRanges:
    """All erased ranges of a log; they don't overlap, unless the log was tampered with."""

    def __init__(self, ranges: Iterable[ErasedRange] = ()) -> None:
        self.ranges = sorted(ranges, key=lambda one: (one.first_id, one.end_id))
        self._starts = [one.first_id for one in self.ranges]

    @classmethod
    def load(cls, using: str) -> ErasedRanges:
        """Read the erasures of ranges."""
        erasures = Erasure.objects.using(using).filter(
            reason=Erasure.Reason.PURGE, details__has_key="first_id"
        )
        found = map(erased_range, read_in_batches(erasures.order_by("id"), size=500))
        return cls(one for one in found if one is not None)

    def find(self, entry_id: int) -> ErasedRange | None:
        """Return the range that contains an entry."""
        place = bisect_right(self._starts, entry_id) - 1
        if place >= 0 and self.ranges[place].contains(entry_id):
            return self.ranges[place]
        return None

    def overlapping(self) -> Iterator[tuple[ErasedRange, ErasedRange]]:
        """Yield each range that overlaps an earlier one, with that one."""
        furthest: ErasedRange | None = None
        for one in self.ranges:
            if furthest is not None and one.first_id < furthest.end_id:
                yield one, furthest
            if furthest is None or one.end_id > furthest.end_id:
                furthest = one


def erased_range(erasure: Erasure) -> ErasedRange | None:
    """Return the range that an erasure covers; ``None`` if its leaves refer to it.

    A tampered erasure may contain any JSON.
    """
    details: Any = erasure.details
    if erasure.reason != Erasure.Reason.PURGE or not isinstance(details, dict):
        return None
    first_id: Any = details.get("first_id")
    end_id: Any = details.get("end_id")
    kept: Any = details.get("kept")
    numbers = [first_id, end_id, erasure.entries]
    if not isinstance(kept, list) or not all(map(_is_id, [*numbers, *kept])):
        return None
    return ErasedRange(first_id, end_id, frozenset(kept), erasure.pk, erasure.entries)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
