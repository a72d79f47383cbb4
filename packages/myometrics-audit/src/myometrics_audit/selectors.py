"""What reads the audit log: exact counts and quick pages at any size.

An exact count is the stored count of sealed entries plus those that wait for a seal, in one
statement and so of one moment. A deep page skips whole months and days by their stored counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.db import connections

from myometrics_core.activities import Activity

from .models import AuditLog, EntryCount, Leaf
from .paging import page_of
from .querysets import AuditLogQuerySet
from .selections import Selection
from .services import activity_of

__all__ = [
    "API_COLUMNS",
    "activities_replay",
    "entries_count",
    "entries_of_user",
    "entries_page",
    "entries_select",
]

API_COLUMNS = (
    "id",
    "user_id",
    "action",
    "resource_type",
    "resource_id",
    "timestamp",
    "ip_address",
    "user_agent",
    "details",
)


def entries_select(selection: Selection) -> AuditLogQuerySet:
    """The entries of a selection, newest first."""
    return AuditLog.objects.matching(selection).order_by("-timestamp", "-id")


def entries_count(entries: AuditLogQuerySet) -> int:
    """Exactly how many entries there are in ``entries`` at this moment."""
    selection = entries.selection
    if selection is None or selection.scope is None:
        return entries.order_by().count()
    using = entries.db
    where, values = selection.where(using)
    periods, days = _periods(selection)
    sql = (
        f'SELECT COALESCE((SELECT SUM("count") FROM "{EntryCount._meta.db_table}" '
        f'WHERE "scope" = %s AND {periods}), 0) + (SELECT COUNT(*) '
        f'FROM "{Leaf._meta.db_table}" l JOIN "{AuditLog._meta.db_table}" a ON a."id" = l."entry_id" '
        f'WHERE l."seal_number" IS NULL{where})'
    )
    with connections[using].cursor() as cursor:
        cursor.execute(sql, [selection.scope, *days, *values])
        return int(cursor.fetchone()[0])


def entries_page(entries: AuditLogQuerySet, offset: int, limit: int) -> Sequence[Any]:
    """At most ``limit`` entries after the newest ``offset`` of ``entries``.

    ``entries`` is ordered newest first; where it comes from :func:`entries_select`, the cost
    hardly grows with ``offset``.
    """
    return page_of(entries, offset, limit)


def entries_of_user(user: Any) -> Iterator[dict[str, Any]]:
    """A person's own entries in the API's shape, oldest first, in constant memory."""
    entries = AuditLog.objects.filter(user_id=user.pk).order_by("timestamp", "id")
    yield from entries.values(*API_COLUMNS).iterator(chunk_size=2000)


def activities_replay() -> Iterator[Activity]:
    """Every entry as the activity it recorded, oldest first, in constant memory."""
    for entry in AuditLog.objects.order_by("id").iterator(chunk_size=2000):
        yield activity_of(entry)


def _periods(selection: Selection) -> tuple[str, list[Any]]:
    if selection.start_date is None and selection.end_date is None:
        return "\"period\" = 'A'", []
    sql, days = "\"period\" = 'D'", []
    for day, operator in ((selection.start_date, ">="), (selection.end_date, "<=")):
        if day is not None:
            sql += f' AND "start" {operator} %s'
            days.append(day)
    return sql, days
