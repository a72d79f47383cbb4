"""Rolled-up counts of sealed entries: kept by the sealer, read by counting and paging.

A scope is what a count is of: all entries, those of a user, an action, a resource type, or an
action on a resource type. Each scope is counted for all time, by UTC month and by UTC day.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

from django.db import connections

from myometrics_core.times import utc_day

from .bulk_values import row_source
from .locks import evidence_lock
from .models import AuditLog, EntryCount, Leaf

__all__ = [
    "ALL_TIME",
    "COUNTED",
    "CountKey",
    "CountedEntry",
    "count_changes",
    "counts_add",
    "counts_drop_user",
    "counts_rebuild",
    "entry_scope",
]

ALL_TIME = date(1, 1, 1)
COUNTED = ("user_id", "action", "resource_type", "timestamp")
CountKey = tuple[str, str, date]
CountedEntry = tuple[Any, str, str, datetime]
SEPARATOR = "\x1f"


def entry_scope(
    *, user_id: Any = None, action: str | None = None, resource_type: str | None = None
) -> str | None:
    """The scope that counts exactly these conditions; ``None`` where there is no such scope."""
    if user_id is not None:
        return None if action is not None or resource_type is not None else _user_scope(user_id)
    parts = [f"a:{action}"] if action is not None else []
    parts += [f"t:{resource_type}"] if resource_type is not None else []
    return SEPARATOR.join(parts)


def count_changes(entries: Iterable[CountedEntry], sign: int = 1) -> Counter[CountKey]:
    """What these entries (columns as :data:`COUNTED`) add to the counts."""
    cells: Counter[tuple[Any, str, str, date]] = Counter()
    for user_id, action, resource_type, timestamp in entries:
        cells[user_id, action, resource_type, utc_day(timestamp)] += sign
    changes: Counter[CountKey] = Counter()
    for (user_id, action, resource_type, day), count in cells.items():
        for scope in _scopes(user_id, action, resource_type):
            for period, start in _periods(day):
                changes[scope, period, start] += count
    return changes


def counts_add(changes: Mapping[CountKey, int], *, using: str) -> None:
    """Add ``changes`` to the stored counts. The caller holds the evidence lock."""
    rows = sorted((*key, count) for key, count in changes.items() if count)
    scopes, periods, starts, added = zip(*rows, strict=True) if rows else ((), (), (), ())
    columns = [list(scopes), list(periods), [day.isoformat() for day in starts], list(added)]
    if rows:
        table = EntryCount._meta.db_table
        source, values = row_source(columns, ("text", "text", "date", "bigint"), using)
        with connections[using].cursor() as cursor:
            cursor.execute(
                f'INSERT INTO "{table}" (scope, period, start, count) {source} '
                "ON CONFLICT (scope, period, start) "
                f'DO UPDATE SET count = "{table}".count + excluded.count',
                values,
            )


def counts_drop_user(user_id: Any, *, using: str) -> None:
    """Forget the counts of a user who is gone."""
    EntryCount.objects.using(using).filter(scope=_user_scope(user_id)).delete()


def counts_rebuild(*, using: str) -> int:
    """Count every sealed entry anew, in one transaction; returns how many there are."""
    with evidence_lock(using):
        EntryCount.objects.using(using).all().delete()
        sealed = Leaf.objects.using(using).filter(seal_number__isnull=False, erasure_id=None)
        entries = AuditLog._base_manager.using(using).filter(pk__in=sealed.values("entry_id"))
        facts = entries.order_by().values_list(*COUNTED)
        changes = count_changes(facts.iterator(chunk_size=10_000))
        counts_add(changes, using=using)
    return changes["", EntryCount.Period.ALL, ALL_TIME]


def _user_scope(user_id: Any) -> str:
    text = str(user_id)
    if len(text) > 200:
        text = hashlib.sha256(text.encode()).hexdigest()
    return f"u:{text}"


def _scopes(user_id: Any, action: str, resource_type: str) -> Iterator[str]:
    yield ""
    yield f"a:{action}"
    yield f"t:{resource_type}"
    yield f"a:{action}{SEPARATOR}t:{resource_type}"
    if user_id is not None:
        yield _user_scope(user_id)


def _periods(day: date) -> Iterator[tuple[str, date]]:
    yield EntryCount.Period.ALL, ALL_TIME
    yield EntryCount.Period.MONTH, day.replace(day=1)
    yield EntryCount.Period.DAY, day
