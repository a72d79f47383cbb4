"""What reads the audit log: exact counts and quick pages at any size.

An exact count is the stored count of sealed entries plus those that wait for a seal, in one
statement and so of one moment. A deep page skips whole months and days by their stored counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.db import connections

from myometrics_core.activities import Activity

from .counts import SEPARATOR
from .models import AuditLog, EntryCount, Leaf, Verification
from .paging import page_of
from .querysets import AuditLogQuerySet
from .seals import unsealed_count
from .selections import Selection
from .services import activity_of

__all__ = [
    "API_COLUMNS",
    "activities_replay",
    "counted_actions",
    "counted_resource_types",
    "entries_count",
    "entries_of_user",
    "entries_page",
    "entries_select",
    "evidence_state",
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
    stored = f'SELECT SUM("count") FROM "{EntryCount._meta.db_table}" WHERE "scope" = %s'
    waiting = (
        f'SELECT COUNT(*) FROM "{Leaf._meta.db_table}" l '
        f'JOIN "{AuditLog._meta.db_table}" a ON a."id" = l."entry_id" '
        f'WHERE l."seal_number" IS NULL{where}'
    )
    sql = f"SELECT COALESCE(({stored} AND {periods}), 0) + ({waiting})"
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


def counted_actions() -> list[str]:
    """The actions of sealed entries, by name, at most a hundred."""
    return _counted("a:")


def counted_resource_types() -> list[str]:
    """The resource types of sealed entries, by name, at most a hundred."""
    return _counted("t:")


def evidence_state() -> str:
    """One line for people: how far the log was verified, and what waits for a seal."""
    waiting = unsealed_count()
    last = Verification.objects.order_by("-id").first()
    if last is None:
        return f"Never verified: run manage.py audit_verify. {waiting} entries wait for a seal."
    result = f"{last.problems} PROBLEMS" if last.problems else "no problems"
    upto = (
        f"seal {last.seal_number} of {last.sealed_at:%Y-%m-%d %H:%M} UTC"
        if last.sealed_at
        else "no seal"
    )
    return (
        f"Verified up to {upto}: {last.entries} entries, {result} "
        f"(run of {last.finished_at:%Y-%m-%d %H:%M} UTC). {waiting} entries wait for a seal."
    )


def _counted(prefix: str) -> list[str]:
    scopes = EntryCount.objects.filter(
        scope__startswith=prefix, period=EntryCount.Period.ALL, count__gt=0
    ).exclude(scope__contains=SEPARATOR)
    names = scopes.order_by("scope").values_list("scope", flat=True)[:100]
    return [scope.removeprefix(prefix) for scope in names]


def _periods(selection: Selection) -> tuple[str, list[Any]]:
    if selection.start_date is None and selection.end_date is None:
        return "\"period\" = 'A'", []
    sql, days = "\"period\" = 'D'", []
    for day, operator in ((selection.start_date, ">="), (selection.end_date, "<=")):
        if day is not None:
            sql += f' AND "start" {operator} %s'
            days.append(day)
    return sql, days
