"""Exact counts, and pages at a cost that does not depend on their number.

The stored counts by month and day give the day in which a page begins, so that only rows of that
day are skipped one by one, from the nearer end. Stored counts cover sealed entries; one statement,
and so one snapshot, reads them with the unsealed ones.

The statements are written in SQL: the ORM compiles them again for each request, which makes a page
cost three times the CPU time.
"""

from __future__ import annotations

from calendar import monthrange
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connections, router

from myometrics_core.db import convert_rows, fetch_rows
from myometrics_core.times import utc_day_start

from ..log.closed_ranges import ClosedRange, closed_ranges, microseconds, without_ranges
from ..log.entry_json import LIST_COLUMNS
from ..log.models import AuditLog, EntryCount, Leaf
from .selection import Selection

Period = EntryCount.Period
Sql = tuple[str, list[Any]]
"""A piece of SQL, in which the log is called ``a``, and its parameters."""
NO_COUNT: Sql = ("NULL", [])
MAX_SHALLOW_OFFSET = 500
"""Largest offset that is skipped row by row, without stored counts."""
WIDENING = 4
"""Factor by which a page that is not full looks into more closed ranges."""


@dataclass(frozen=True)
class PageSlice:
    """Part of a page: ``take`` entries after ``skip`` entries of a time span.

    ``since`` is inclusive, ``until`` exclusive. Without ``newest_first``, rows are skipped from
    the oldest, and must be reversed. Entries of ``leave_out`` are not read.
    """

    skip: int
    take: int
    since: datetime | None = None
    until: datetime | None = None
    newest_first: bool = True
    leave_out: Sequence[ClosedRange] = ()


@dataclass(frozen=True)
class PageStart:
    """The position where a page begins: after ``skip`` of the ``size`` entries of a period."""

    period: date
    skip: int
    size: int


def entries_count(selection: Selection, *, using: str | None = None) -> int:
    """Return the exact number of entries of a selection."""
    alias = using or router.db_for_read(AuditLog)
    sql, values = _count_sql(selection, closed_ranges(alias), alias)
    return int(fetch_rows(f"SELECT {sql}", values, using=alias)[0][0])


def entries_page(
    selection: Selection,
    offset: int,
    limit: int,
    *,
    columns: tuple[str, ...] = LIST_COLUMNS,
    using: str | None = None,
) -> tuple[int, list[dict[str, Any]]]:
    """Return the exact count of a selection, and ``limit`` rows after the newest ``offset``.

    Rows are dictionaries of ``columns``. One statement reads count and rows, except for deep
    pages, and for pages of more than one closed partition.
    """
    alias = using or router.db_for_read(AuditLog)
    closed = closed_ranges(alias)
    slices, total = _plan(selection, offset, limit, closed, alias)
    rows: list[dict[str, Any]] = []
    for part in slices:
        for search, newest_left_out in _searches(selection, part, closed):
            count_sql = NO_COUNT if total is not None else _count_sql(selection, closed, alias)
            found, count = _read(selection, search, columns, count_sql, alias)
            if count is None and total is None:
                count = entries_count(selection, using=alias)  # there were no rows
            total = count if total is None else total
            if newest_left_out is None or _is_complete(found, search, newest_left_out, count):
                break
        rows += found
    return int(total or 0), rows


def _searches(
    selection: Selection, part: PageSlice, closed: Sequence[ClosedRange]
) -> Iterator[tuple[PageSlice, int | None]]:
    """Yield ways to read a slice: first without most of the closed ranges, last with all of them.

    With each comes the time of the newest entry that may be missing, in microseconds.
    """
    since = microseconds(max(filter(None, (selection.since, part.since)), default=None))
    until = microseconds(min(filter(None, (selection.until, part.until)), default=None))
    outside = [one for one in closed if not one.overlaps(since, until)]
    newest_first = sorted(
        (one for one in closed if one.overlaps(since, until)),
        key=lambda one: one.newest or 0,
        reverse=True,
    )
    searched = 1
    while part.newest_first and searched < len(newest_first):
        left_out = newest_first[searched:]
        yield replace(part, leave_out=[*outside, *left_out]), left_out[0].newest
        # Counting reads all ranges anyway, unless the count is stored.
        searched = searched * WIDENING if selection.scope is not None else len(newest_first)
    yield replace(part, leave_out=outside), None


def _is_complete(
    rows: Sequence[Mapping[str, Any]], part: PageSlice, newest_left_out: int, count: int | None
) -> bool:
    """Return whether no entry that was left out belongs to a slice.

    ``count`` is that of the selection if it was not read before the rows.
    """
    if part.until is None and count is not None and len(rows) == max(count - part.skip, 0):
        return True  # no entry of the selection was left out
    # Without the times of the rows, all ranges are read.
    is_known = bool(rows) and len(rows) == part.take and "timestamp" in rows[-1]
    oldest = microseconds(rows[-1]["timestamp"]) if is_known else None
    return oldest is not None and oldest > newest_left_out


def _plan(
    selection: Selection, offset: int, limit: int, closed: Sequence[ClosedRange], using: str
) -> tuple[list[PageSlice], int | None]:
    """Return the slices of a page, in order, and the exact count if planning has read it."""
    is_pair = selection.action is not None and selection.resource_type is not None
    if selection.scope is None or (offset <= MAX_SHALLOW_OFFSET and not is_pair):
        return [PageSlice(offset, limit)], None
    counts = _counts_by_period(selection, closed, by_day=selection.has_span, using=using)
    total = sum(count for _, count in counts)
    if offset <= MAX_SHALLOW_OFFSET:
        return _bounded(counts, offset, limit), total
    start = _find(counts, offset)
    if start is not None and not selection.has_span:
        start = _find_day(selection, start, closed, using)
    return _slices(start, limit) if start else [], total


def _bounded(counts: list[tuple[date, int]], offset: int, limit: int) -> list[PageSlice]:
    """Return the slice of a shallow page of an action and a resource type combined.

    No index covers the pair, and it may be rare: the lower bound limits the rows to scan.
    """
    since, wanted = None, offset + limit
    for start, count in counts:
        if count and wanted > 0:
            since, wanted = utc_day_start(start), wanted - count
    return [PageSlice(offset, limit, since=since)] if since else []


def _slices(start: PageStart, limit: int) -> list[PageSlice]:
    since = utc_day_start(start.period)
    is_last_day = start.period == date.max
    until = None if is_last_day else utc_day_start(start.period + timedelta(days=1))
    remaining = start.size - start.skip
    if start.skip <= remaining:
        return [PageSlice(start.skip, limit, until=until)]
    in_day = min(limit, remaining)
    slices = [PageSlice(remaining - in_day, in_day, since, until, newest_first=False)]
    if in_day < limit:
        slices.append(PageSlice(0, limit - in_day, until=since))
    return slices


def _find_day(
    selection: Selection, month: PageStart, closed: Sequence[ClosedRange], using: str
) -> PageStart | None:
    """Find the day in which a page begins, within the month in which it begins."""
    first, days = month.period, monthrange(month.period.year, month.period.month)[1]
    within = replace(selection, start_date=first, end_date=first.replace(day=days))
    return _find(_counts_by_period(within, closed, by_day=True, using=using), month.skip)


def _find(counts: list[tuple[date, int]], offset: int) -> PageStart | None:
    for period, count in counts:
        if offset < count:
            return PageStart(period, skip=offset, size=count)
        offset -= count
    return None


def _read(
    selection: Selection, part: PageSlice, columns: tuple[str, ...], count_sql: Sql, using: str
) -> tuple[list[dict[str, Any]], Any]:
    """Return the rows of a slice, and the count; ``None`` if there are no rows."""
    where, values = _where(selection, using, since=part.since, until=part.until)
    left_out = without_ranges(part.leave_out)
    where += left_out
    direction = "DESC" if part.newest_first else "ASC"
    order = f'ORDER BY a."timestamp" {direction}, a."id" {direction}'
    table, limit = AuditLog._meta.db_table, f" LIMIT {part.take}"
    if part.skip:
        # Skipping only ids is an index-only scan.
        ids = f'SELECT a."id" FROM "{table}" a WHERE TRUE{where} {order}{limit}'
        where, limit = f'{left_out} AND a."id" IN ({ids} OFFSET {part.skip})', ""
    shown = ", ".join(f'a."{name}"' for name in columns)
    sql = f'SELECT {shown}, ({count_sql[0]}) FROM "{table}" a WHERE TRUE{where} {order}{limit}'
    found = fetch_rows(sql, [*count_sql[1], *values], using=using)
    converted = convert_rows(found, AuditLog, columns, using=using)
    rows = [dict(zip(columns, row, strict=False)) for row in converted]
    return rows if part.newest_first else rows[::-1], found[0][-1] if found else None


def _counts_by_period(
    selection: Selection, closed: Sequence[ClosedRange], *, by_day: bool, using: str
) -> list[tuple[date, int]]:
    """Return the number of entries per day or month, newest first."""
    stored, values = _stored_sql(selection, Period.DAY if by_day else Period.MONTH)
    unsealed, unsealed_values = _unsealed_sql(selection, closed, using)
    is_postgresql = connections[using].vendor == "postgresql"
    day = """(a."timestamp" AT TIME ZONE 'UTC')::date""" if is_postgresql else 'date(a."timestamp")'
    sql = f'SELECT "start", "count" {stored} UNION ALL SELECT {day}, 1 {unsealed}'
    counts: Counter[date] = Counter()
    for value, count in fetch_rows(sql, [*values, *unsealed_values], using=using):
        # SQLite returns dates as text.
        start = value if isinstance(value, date) else date.fromisoformat(value)
        counts[start if by_day else start.replace(day=1)] += count
    return sorted(counts.items(), reverse=True)


def _count_sql(selection: Selection, closed: Sequence[ClosedRange], using: str) -> Sql:
    """Return the exact count of the selection as an expression."""
    if selection.scope is None:
        where, values = _where(selection, using)
        span = microseconds(selection.since), microseconds(selection.until)
        where += without_ranges(one for one in closed if not one.overlaps(*span))
        return f'(SELECT COUNT(*) FROM "{AuditLog._meta.db_table}" a WHERE TRUE{where})', values
    stored, values = _stored_sql(selection, Period.DAY if selection.has_span else Period.ALL)
    unsealed, unsealed_values = _unsealed_sql(selection, closed, using)
    if selection == Selection():
        # Without the join, this is an index scan.
        unsealed = f'FROM "{Leaf._meta.db_table}" WHERE "seal_number" IS NULL'
        unsealed += ' AND "erasure_id" IS NULL'
    sql = f'COALESCE((SELECT SUM("count") {stored}), 0) + (SELECT COUNT(*) {unsealed})'
    return sql, [*values, *unsealed_values]


def _stored_sql(selection: Selection, period: Period) -> Sql:
    """Return FROM and WHERE for the stored counts of the sealed entries."""
    sql = f'FROM "{EntryCount._meta.db_table}" WHERE "scope" = %s AND "period" = %s'
    values: list[Any] = [selection.scope, period.value]
    for operator, day in ((">=", selection.start_date), ("<=", selection.end_date)):
        if day is not None:
            sql += f' AND "start" {operator} %s'
            values.append(day)
    return sql, values


def _unsealed_sql(selection: Selection, closed: Sequence[ClosedRange], using: str) -> Sql:
    """Return FROM and WHERE for the unsealed entries."""
    where, values = _where(selection, using)
    sql = (
        f'FROM "{Leaf._meta.db_table}" l JOIN "{AuditLog._meta.db_table}" a '
        f'ON a."id" = l."entry_id" WHERE l."seal_number" IS NULL{where}{without_ranges(closed)}'
    )
    return sql, values


def _where(
    selection: Selection,
    using: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Sql:
    """Return the conditions of a selection, and of a slice, to append to a WHERE."""
    terms = [*selection.terms(), ("timestamp", ">=", since), ("timestamp", "<", until)]
    sql, values = "", []
    for name, operator, value in terms:
        if value is not None:
            field: Any = AuditLog._meta.get_field(name)
            if value == "":
                # A literal: planners compare it with the condition of a partial index.
                sql += f" AND a.\"{field.column}\" {operator} ''"
                continue
            sql += f' AND a."{field.column}" {operator} %s'
            values.append(field.get_db_prep_value(value, connections[using]))
    return sql, values
