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
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

from django.db import connections, router

from myometrics_core.db import fetch_rows
from myometrics_core.times import utc_day_start

from ..log.entry_json import LIST_COLUMNS
from ..log.models import AuditLog, EntryCount, Leaf
from .selection import Selection

__all__ = ["entries_count", "entries_page"]

Period = EntryCount.Period
Sql = tuple[str, list[Any]]
"""A piece of SQL, in which the log is called ``a``, and its parameters."""
MAX_SHALLOW_OFFSET = 500
"""Largest offset that is skipped row by row, without stored counts."""


@dataclass(frozen=True)
class PageSlice:
    """Part of a page: ``take`` entries after ``skip`` entries of a time span.

    ``since`` is inclusive, ``until`` exclusive. Without ``newest_first``, rows are skipped from
    the oldest, and must be reversed.
    """

    skip: int
    take: int
    since: datetime | None = None
    until: datetime | None = None
    newest_first: bool = True


@dataclass(frozen=True)
class PageStart:
    """The position where a page begins: after ``skip`` of the ``size`` entries of a period."""

    period: date
    skip: int
    size: int


def entries_count(selection: Selection, *, using: str | None = None) -> int:
    """Return the exact number of entries of a selection."""
    alias = using or router.db_for_read(AuditLog)
    sql, values = _count_sql(selection, alias)
    return int(fetch_rows(f"SELECT {sql}", values, using=alias)[0][0])


def entries_page(
    selection: Selection, offset: int, limit: int, *, using: str | None = None
) -> tuple[int, list[dict[str, Any]]]:
    """Return the exact count of a selection, and ``limit`` rows after the newest ``offset``.

    Rows are dictionaries of ``LIST_COLUMNS``. One statement reads count and rows, except for deep
    pages.
    """
    alias = using or router.db_for_read(AuditLog)
    slices, total = _plan(selection, offset, limit, alias)
    rows: list[dict[str, Any]] = []
    for part in slices:
        count_sql: Sql = ("NULL", []) if total is not None else _count_sql(selection, alias)
        found, count = _read(selection, part, count_sql, alias)
        rows += found
        total = count if total is None else total
    return entries_count(selection, using=alias) if total is None else int(total), rows


def _plan(
    selection: Selection, offset: int, limit: int, using: str
) -> tuple[list[PageSlice], int | None]:
    """Return the slices of a page, in order, and the exact count if planning has read it."""
    is_pair = selection.action is not None and selection.resource_type is not None
    if selection.scope is None or (offset <= MAX_SHALLOW_OFFSET and not is_pair):
        return [PageSlice(offset, limit)], None
    counts = _counts_by_period(selection, by_day=selection.has_span, using=using)
    total = sum(count for _, count in counts)
    if offset <= MAX_SHALLOW_OFFSET:
        return _bounded(counts, offset, limit), total
    start = _find(counts, offset)
    if start is not None and not selection.has_span:
        start = _find_day(selection, start, using)
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


def _find_day(selection: Selection, month: PageStart, using: str) -> PageStart | None:
    """Find the day in which a page begins, within the month in which it begins."""
    first, days = month.period, monthrange(month.period.year, month.period.month)[1]
    within = replace(selection, start_date=first, end_date=first.replace(day=days))
    return _find(_counts_by_period(within, by_day=True, using=using), month.skip)


def _find(counts: list[tuple[date, int]], offset: int) -> PageStart | None:
    for period, count in counts:
        if offset < count:
            return PageStart(period, skip=offset, size=count)
        offset -= count
    return None


def _read(
    selection: Selection, part: PageSlice, count_sql: Sql, using: str
) -> tuple[list[dict[str, Any]], Any]:
    """Return the rows of a slice, and the count; ``None`` if there are no rows."""
    where, values = _where(selection, using, since=part.since, until=part.until)
    direction = "DESC" if part.newest_first else "ASC"
    order = f'ORDER BY a."timestamp" {direction}, a."id" {direction}'
    table, limit = AuditLog._meta.db_table, f" LIMIT {part.take}"
    if part.skip:
        # Skipping only ids is an index-only scan.
        ids = f'SELECT a."id" FROM "{table}" a WHERE TRUE{where} {order}{limit}'
        where, limit = f' AND a."id" IN ({ids} OFFSET {part.skip})', ""
    columns = ", ".join(f'a."{name}"' for name in LIST_COLUMNS)
    sql = f'SELECT {columns}, ({count_sql[0]}) FROM "{table}" a WHERE TRUE{where} {order}{limit}'
    found = fetch_rows(sql, [*count_sql[1], *values], using=using)
    rows = [dict(zip(LIST_COLUMNS, row, strict=False)) for row in found]
    for name, convert, expression in _converters(using):
        for row in rows:
            row[name] = convert(row[name], expression, connections[using])
    return rows if part.newest_first else rows[::-1], found[0][-1] if found else None


@lru_cache(maxsize=8)
def _converters(using: str) -> list[tuple[str, Any, Any]]:
    """Return the ORM's converters of database values: (column, function, expression)."""
    compiler = AuditLog._base_manager.using(using).values(*LIST_COLUMNS).query.get_compiler(using)
    compiler.setup_query()
    expressions = [column for column, _, _ in compiler.select]
    return [
        (LIST_COLUMNS[position], convert, expression)
        for position, (converts, expression) in compiler.get_converters(expressions).items()
        for convert in converts
    ]


def _counts_by_period(selection: Selection, *, by_day: bool, using: str) -> list[tuple[date, int]]:
    """Return the number of entries per day or month, newest first."""
    stored, values = _stored_sql(selection, Period.DAY if by_day else Period.MONTH)
    unsealed, unsealed_values = _unsealed_sql(selection, using)
    is_postgresql = connections[using].vendor == "postgresql"
    day = """(a."timestamp" AT TIME ZONE 'UTC')::date""" if is_postgresql else 'date(a."timestamp")'
    sql = f'SELECT "start", "count" {stored} UNION ALL SELECT {day}, 1 {unsealed}'
    counts: Counter[date] = Counter()
    for value, count in fetch_rows(sql, [*values, *unsealed_values], using=using):
        # SQLite returns dates as text.
        start = value if isinstance(value, date) else date.fromisoformat(value)
        counts[start if by_day else start.replace(day=1)] += count
    return sorted(counts.items(), reverse=True)


def _count_sql(selection: Selection, using: str) -> Sql:
    """Return the exact count of the selection as an expression."""
    if selection.scope is None:
        where, values = _where(selection, using)
        return f'(SELECT COUNT(*) FROM "{AuditLog._meta.db_table}" a WHERE TRUE{where})', values
    stored, values = _stored_sql(selection, Period.DAY if selection.has_span else Period.ALL)
    unsealed, unsealed_values = _unsealed_sql(selection, using)
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


def _unsealed_sql(selection: Selection, using: str) -> Sql:
    """Return FROM and WHERE for the unsealed entries."""
    where, values = _where(selection, using)
    sql = (
        f'FROM "{Leaf._meta.db_table}" l JOIN "{AuditLog._meta.db_table}" a '
        f'ON a."id" = l."entry_id" WHERE l."seal_number" IS NULL{where}'
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
            sql += f' AND a."{field.column}" {operator} %s'
            values.append(field.get_db_prep_value(value, connections[using]))
    return sql, values
