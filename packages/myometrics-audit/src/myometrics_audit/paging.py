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

from .counts import utc_day
from .models import AuditLog, EntryCount, Leaf
from .selections import Selection

__all__ = ["PagePlan", "PageSlice", "page_plan"]

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


@dataclass(frozen=True)
class PagePlan:
    """What to read for a page, in order; and the exact count, where planning found it."""

    slices: list[PageSlice]
    total: int | None = None


def page_plan(selection: Selection, offset: int, limit: int, *, using: str) -> PagePlan:
    """How to read ``limit`` rows after the newest ``offset``."""
    is_pair = selection.action is not None and selection.resource_type is not None
    if selection.scope is None or (offset <= SHALLOW and not is_pair):
        return PagePlan([PageSlice(offset, limit)])
    has_span = selection.start_date is not None or selection.end_date is not None
    counts = _waiting_and_stored(using, selection, by_day=has_span)
    buckets = _newest_first(counts)
    total = sum(count for _, count in buckets)
    if offset <= SHALLOW:
        return PagePlan(_bounded(buckets, offset, limit), total)
    place = _find(buckets, offset)
    if place is not None and not has_span:
        place = _find_day(using, selection, counts, place)
    return PagePlan(_slices(place, limit) if place else [], total)


def _bounded(buckets: list[tuple[date, int]], offset: int, limit: int) -> list[PageSlice]:
    """A shallow page of a pair of filters, which may be rare though each alone is not.

    No index holds such pairs, so nothing is read that is older than the page's last period.
    """
    since, wanted = None, offset + limit
    for start, count in buckets:
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


def _find_day(using: str, selection: Selection, months: _Counts, month: _Place) -> _Place | None:
    """The day of a month in which a page begins that begins in that month."""
    after = (month.start + timedelta(days=31)).replace(day=1)
    within = {day: count for day, count in months.waiting.items() if month.start <= day < after}
    stored = _stored(using, selection, "D", month.start, after - timedelta(days=1))
    return _find(_newest_first(_Counts(Counter(within), stored)), month.skip)


@dataclass(frozen=True)
class _Counts:
    """Entries that wait for a seal by day, and sealed ones by day or by month."""

    waiting: Counter[date]
    stored: Counter[date]
    by_day: bool = True


def _newest_first(counts: _Counts) -> list[tuple[date, int]]:
    total = Counter(counts.stored)
    for day, count in counts.waiting.items():
        total[day if counts.by_day else day.replace(day=1)] += count
    return sorted(total.items(), reverse=True)


def _find(buckets: Iterable[tuple[date, int]], offset: int) -> _Place | None:
    for start, count in buckets:
        if offset < count:
            return _Place(start=start, skip=offset, size=count)
        offset -= count
    return None


def _waiting_and_stored(using: str, selection: Selection, *, by_day: bool) -> _Counts:
    """What waits for a seal and what is stored, of one moment."""
    stored, stored_values = _stored_sql(
        selection, "D" if by_day else "M", selection.start_date, selection.end_date
    )
    where, values = selection.where(using)
    waiting = (
        f'SELECT NULL, 1, a."timestamp" FROM "{Leaf._meta.db_table}" l '
        f'JOIN "{AuditLog._meta.db_table}" a ON a."id" = l."entry_id" '
        f'WHERE l."seal_number" IS NULL{where}'
    )
    counts = _Counts(Counter(), Counter(), by_day)
    with connections[using].cursor() as cursor:
        cursor.execute(f"{stored} UNION ALL {waiting}", [*stored_values, *values])
        for start, count, moment in cursor.fetchall():
            if moment is None:
                counts.stored[_day(start)] += count
            else:
                counts.waiting[_day(moment)] += count
    return counts


def _stored(
    using: str, selection: Selection, period: str, first: date, last: date
) -> Counter[date]:
    sql, values = _stored_sql(selection, period, first, last)
    with connections[using].cursor() as cursor:
        cursor.execute(sql, values)
        return Counter({_day(start): count for start, count, _ in cursor.fetchall()})


def _stored_sql(
    selection: Selection, period: str, first: date | None, last: date | None
) -> tuple[str, list[Any]]:
    sql = (
        f'SELECT "start", "count", NULL FROM "{EntryCount._meta.db_table}" '
        'WHERE "scope" = %s AND "period" = %s'
    )
    values: list[Any] = [selection.scope, period]
    for operator, day in ((">=", first), ("<=", last)):
        if day is not None:
            sql += f' AND "start" {operator} %s'
            values.append(day)
    return sql, values


def _day(value: Any) -> date:
    """The UTC day of what a database gave: SQLite keeps days and UTC times as text."""
    if isinstance(value, str):
        return date.fromisoformat(value[:10])
    return utc_day(value) if isinstance(value, datetime) else value
