"""Locating a page without reading the rows before it.

The stored counts per month and day give the day in which a page begins. Only the rows of that day
are skipped one by one, from the nearer end.
"""

from __future__ import annotations

from calendar import monthrange
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connections
from django.db.models import Q

from myometrics_core.db import fetch_rows
from myometrics_core.times import utc_day, utc_day_start

from ..log.models import AuditLog, EntryCount, Leaf
from .selection import Selection

__all__ = ["PagePlan", "PageSlice", "page_plan"]

Period = EntryCount.Period
SHALLOW = 500
"""Largest offset that is skipped row by row, without stored counts."""


@dataclass(frozen=True)
class PageSlice:
    """A slice of a selection within a time span: ``take`` rows after ``skip`` rows.

    ``since`` is inclusive, ``until`` exclusive. Without ``newest_first``, rows are skipped from
    the oldest, and the caller must reverse the result.
    """

    skip: int
    take: int
    since: datetime | None = None
    until: datetime | None = None
    newest_first: bool = True

    def condition(self) -> Q:
        """Return the span as a condition on ``AuditLog``."""
        bounds = {"timestamp__gte": self.since, "timestamp__lt": self.until}
        return Q(**{lookup: moment for lookup, moment in bounds.items() if moment is not None})

    def where(self, using: str) -> tuple[str, list[Any]]:
        """Return the span as SQL to append to a WHERE on ``AuditLog`` as ``a``, and its values."""
        field, sql, values = AuditLog._meta.get_field("timestamp"), "", []
        for operator, moment in ((">=", self.since), ("<", self.until)):
            if moment is not None:
                sql += f' AND a."timestamp" {operator} %s'
                values.append(field.get_db_prep_value(moment, connections[using]))
        return sql, values


@dataclass(frozen=True)
class _Place:
    """The start of a page: after ``skip`` of the ``size`` rows of a period, newest first."""

    start: date
    skip: int
    size: int


@dataclass(frozen=True)
class PagePlan:
    """The slices of a page, in order, and the exact count if planning has read it."""

    slices: list[PageSlice]
    total: int | None = None


def page_plan(selection: Selection, offset: int, limit: int, *, using: str) -> PagePlan:
    """Plan how to read ``limit`` rows after the newest ``offset``."""
    is_pair = selection.action is not None and selection.resource_type is not None
    if selection.scope is None or (offset <= SHALLOW and not is_pair):
        return PagePlan([PageSlice(offset, limit)])
    buckets, any_waiting = _buckets(using, selection, by_day=selection.has_span)
    total = sum(count for _, count in buckets)
    if offset <= SHALLOW:
        return PagePlan(_bounded(buckets, offset, limit), total)
    place = _find(buckets, offset)
    if place is not None and not selection.has_span:
        place = _find_day(using, selection, place, any_waiting=any_waiting)
    return PagePlan(_slices(place, limit) if place else [], total)


def _bounded(buckets: list[tuple[date, int]], offset: int, limit: int) -> list[PageSlice]:
    """Return the slice of a shallow page of an action and a resource type combined.

    No index covers the pair, and it may be rare: the lower bound limits the rows to scan.
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


def _find_day(
    using: str, selection: Selection, month: _Place, *, any_waiting: bool
) -> _Place | None:
    """Find the day in which a page begins, within the month in which it begins."""
    days = monthrange(month.start.year, month.start.month)[1]
    within = replace(selection, start_date=month.start, end_date=month.start.replace(day=days))
    buckets, _ = _buckets(using, within, by_day=True, any_waiting=any_waiting)
    return _find(buckets, month.skip)


def _find(buckets: Iterable[tuple[date, int]], offset: int) -> _Place | None:
    for start, count in buckets:
        if offset < count:
            return _Place(start=start, skip=offset, size=count)
        offset -= count
    return None


def _buckets(
    using: str, selection: Selection, *, by_day: bool, any_waiting: bool = True
) -> tuple[list[tuple[date, int]], bool]:
    """Return the number of entries per day or month, newest first, and whether any are unsealed.

    Sealed and unsealed entries are read in one snapshot. Pass ``any_waiting=False`` to skip the
    unsealed ones, if the previous query found none.
    """
    counted, values = selection.counted(Period.DAY if by_day else Period.MONTH)
    sql = f'SELECT "start", "count", NULL FROM "{EntryCount._meta.db_table}" WHERE {counted}'
    if any_waiting:
        waiting_sql, waiting_values = _waiting_sql(using, selection)
        sql, values = f"{sql} UNION ALL {waiting_sql}", [*values, *waiting_values]
    counts: Counter[date] = Counter()
    found_waiting = False
    for start, count, moment in fetch_rows(sql, values, using=using):
        found_waiting = found_waiting or moment is not None
        day = _day(start if moment is None else moment)
        counts[day if by_day else day.replace(day=1)] += count
    return sorted(counts.items(), reverse=True), found_waiting


def _waiting_sql(using: str, selection: Selection) -> tuple[str, list[Any]]:
    where, values = selection.where(using)
    sql = (
        f'SELECT NULL, 1, a."timestamp" FROM "{Leaf._meta.db_table}" l '
        f'JOIN "{AuditLog._meta.db_table}" a ON a."id" = l."entry_id" '
        f'WHERE l."seal_number" IS NULL{where}'
    )
    return sql, values


def _day(value: Any) -> date:
    """Return the UTC day of a database value: SQLite stores dates and UTC times as text."""
    if isinstance(value, str):
        return date.fromisoformat(value[:10])
    return utc_day(value) if isinstance(value, datetime) else value
