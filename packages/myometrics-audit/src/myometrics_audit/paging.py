"""Deep pages of the log without reading what lies before them.

Stored counts say how many entries each month and day holds. They lead to the day in which a
page begins; only the rows of that day are skipped one by one, from whichever end is nearer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.db.models import Q

from myometrics_core.times import utc_day_start

from .counts import stored_counts, utc_day
from .models import AuditLog, EntryCount, Leaf
from .querysets import AuditLogQuerySet
from .selections import Selection

__all__ = ["page_of"]

SHALLOW = 500
"""Rows that are skipped one by one rather than looked up."""


@dataclass(frozen=True)
class _Place:
    """Where a page begins: ``skip`` rows into a day that holds ``size``, newest first."""

    day: date
    skip: int
    size: int


def page_of(entries: AuditLogQuerySet, offset: int, limit: int) -> Sequence[Any]:
    """At most ``limit`` rows of ``entries`` (newest first) after the first ``offset``."""
    selection = entries.selection
    if offset <= SHALLOW:
        return list(entries[offset : offset + limit])
    if selection is None or selection.scope is None:
        return _by_ids(entries, entries, offset, limit)
    place = _locate(entries.db, selection, offset)
    return _from_place(entries, place, limit) if place else []


def _by_ids(
    entries: AuditLogQuerySet, chosen: AuditLogQuerySet, offset: int, limit: int
) -> Sequence[Any]:
    # Skipping ids alone stays within an index.
    ids = list(chosen.values_list("pk", flat=True)[offset : offset + limit])
    return list(entries.filter(pk__in=ids)) if ids else []


def _from_place(entries: AuditLogQuerySet, place: _Place, limit: int) -> Sequence[Any]:
    until = utc_day_start(place.day + timedelta(days=1))
    remaining = place.size - place.skip
    if place.skip <= remaining:
        return _by_ids(entries, entries.filter(timestamp__lt=until), place.skip, limit)
    start = utc_day_start(place.day)
    in_day = entries.filter(timestamp__gte=start, timestamp__lt=until).order_by("timestamp", "id")
    rows = list(_by_ids(entries, in_day, max(0, remaining - limit), min(limit, remaining)))
    if len(rows) < limit:
        rows += list(entries.filter(timestamp__lt=start)[: limit - len(rows)])
    return rows


def _locate(using: str, selection: Selection, offset: int) -> _Place | None:
    pending = _pending_days(using, selection)
    if selection.start_date is None and selection.end_date is None:
        month = _find(_buckets(using, selection, EntryCount.Period.MONTH, Q(), pending), offset)
        if month is None:
            return None
        return _locate_in_month(using, selection, month, pending)
    return _find(
        _buckets(using, selection, EntryCount.Period.DAY, _in_range(selection), pending), offset
    )


def _locate_in_month(
    using: str, selection: Selection, month: _Place, pending: Counter[date]
) -> _Place | None:
    first, after = month.day, (month.day + timedelta(days=31)).replace(day=1)
    in_month = Counter({day: count for day, count in pending.items() if first <= day < after})
    condition = Q(start__gte=first, start__lt=after)
    days = _buckets(using, selection, EntryCount.Period.DAY, condition, in_month)
    return _find(days, month.skip)


def _in_range(selection: Selection) -> Q:
    condition = Q()
    if selection.start_date is not None:
        condition &= Q(start__gte=selection.start_date)
    if selection.end_date is not None:
        condition &= Q(start__lte=selection.end_date)
    return condition


def _buckets(
    using: str, selection: Selection, period: str, condition: Q, pending: Counter[date]
) -> list[tuple[date, int]]:
    """Stored plus pending counts by period, newest first."""
    stored = stored_counts(selection.scope or "", using=using).filter(condition, period=period)
    total = Counter(dict(stored.values_list("start", "count")))
    for day, count in pending.items():
        total[day.replace(day=1) if period == EntryCount.Period.MONTH else day] += count
    return sorted(total.items(), reverse=True)


def _find(buckets: Iterable[tuple[date, int]], offset: int) -> _Place | None:
    for start, count in buckets:
        if offset < count:
            return _Place(day=start, skip=offset, size=count)
        offset -= count
    return None


def _pending_days(using: str, selection: Selection) -> Counter[date]:
    """How many selected entries of each day wait for a seal."""
    unsealed = Leaf.objects.using(using).filter(seal_number=None).values("entry_id")
    selected = AuditLog.objects.using(using).filter(selection.condition())
    waiting = selected.filter(pk__in=unsealed).order_by()
    moments = waiting.values_list("timestamp", flat=True).iterator(chunk_size=10_000)
    return Counter(utc_day(moment) for moment in moments)
