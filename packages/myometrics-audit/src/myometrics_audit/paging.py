"""Where a page lies, without reading what lies before it.

Stored counts say how many entries each month and day holds. They lead to the day in which a
page begins; only the rows of that day are skipped one by one, from whichever end is nearer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connections
from django.db.models import Q

from myometrics_core.times import utc_day_start

from .counts import stored_counts, utc_day
from .models import AuditLog, EntryCount, Leaf
from .selections import Selection

__all__ = ["PageSlice", "page_slices"]

SHALLOW = 500
"""Rows that are skipped one by one rather than looked up."""


@dataclass(frozen=True)
class PageSlice:
    """Rows of a selection within a span of time: skip some, take some.

    ``since`` is included, ``until`` is not. Not ``newest_first``: counted from the other end,
    and to be turned round.
    """

    skip: int
    take: int
    since: datetime | None = None
    until: datetime | None = None
    newest_first: bool = True

    def condition(self) -> Q:
        """The span as a condition on ``AuditLog``."""
        bounds = {"timestamp__gte": self.since, "timestamp__lt": self.until}
        return Q(**{lookup: moment for lookup, moment in bounds.items() if moment is not None})

    def where(self, using: str) -> tuple[str, list[Any]]:
        """The span as SQL to append to a WHERE on ``AuditLog`` as ``a``, and its values."""
        field, sql, values = AuditLog._meta.get_field("timestamp"), "", []
        for operator, moment in ((">=", self.since), ("<", self.until)):
            if moment is not None:
                sql += f' AND a."timestamp" {operator} %s'
                values.append(field.get_db_prep_value(moment, connections[using]))
        return sql, values


@dataclass(frozen=True)
class _Place:
    """Where a page begins: ``skip`` rows into a period that holds ``size``, newest first."""

    start: date
    skip: int
    size: int


def page_slices(selection: Selection, offset: int, limit: int, *, using: str) -> list[PageSlice]:
    """What to read, in order, for ``limit`` rows after the newest ``offset``."""
    if selection.scope is None:
        return [PageSlice(offset, limit)]
    if offset <= SHALLOW:
        is_pair = selection.action is not None and selection.resource_type is not None
        return _bounded(using, selection, offset, limit) if is_pair else [PageSlice(offset, limit)]
    place = _locate(using, selection, offset)
    return _slices(place, limit) if place else []


def _bounded(using: str, selection: Selection, offset: int, limit: int) -> list[PageSlice]:
    """A shallow page of a pair of filters, which may be rare though each alone is not.

    No index holds such pairs, so nothing is read that is older than the page's last period.
    """
    has_span = selection.start_date is not None or selection.end_date is not None
    period = EntryCount.Period.DAY if has_span else EntryCount.Period.MONTH
    pending = _pending_days(using, selection)
    since, wanted = None, offset + limit
    for start, count in _buckets(using, selection, period, _in_range(selection), pending):
        if count and wanted > 0:
            since, wanted = utc_day_start(start), wanted - count
    return [PageSlice(offset, limit, since=since)] if since else []


def _slices(place: _Place, limit: int) -> list[PageSlice]:
    since = utc_day_start(place.start)
    until = None if place.start == date.max else utc_day_start(place.start + timedelta(days=1))
    remaining = place.size - place.skip
    if place.skip <= remaining:
        return [PageSlice(place.skip, limit, until=until)]
    in_day = min(limit, remaining)
    slices = [PageSlice(remaining - in_day, in_day, since, until, newest_first=False)]
    if in_day < limit:
        slices.append(PageSlice(0, limit - in_day, until=since))
    return slices


def _locate(using: str, selection: Selection, offset: int) -> _Place | None:
    pending = _pending_days(using, selection)
    day = EntryCount.Period.DAY
    if selection.start_date is not None or selection.end_date is not None:
        return _find(_buckets(using, selection, day, _in_range(selection), pending), offset)
    months = _buckets(using, selection, EntryCount.Period.MONTH, Q(), pending)
    month = _find(months, offset)
    if month is None:
        return None
    after = (month.start + timedelta(days=31)).replace(day=1)
    waiting = {d: count for d, count in pending.items() if month.start <= d < after}
    condition = Q(start__gte=month.start, start__lt=after)
    return _find(_buckets(using, selection, day, condition, Counter(waiting)), month.skip)


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
            return _Place(start=start, skip=offset, size=count)
        offset -= count
    return None


def _pending_days(using: str, selection: Selection) -> Counter[date]:
    """How many selected entries of each day wait for a seal."""
    unsealed = Leaf.objects.using(using).filter(seal_number=None).values("entry_id")
    selected = AuditLog.objects.using(using).filter(selection.condition())
    moments = selected.filter(pk__in=unsealed).order_by().values_list("timestamp", flat=True)
    return Counter(utc_day(moment) for moment in moments.iterator(chunk_size=10_000))
