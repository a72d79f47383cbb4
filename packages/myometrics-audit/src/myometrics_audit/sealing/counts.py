"""Stored counts of sealed entries: written by the sealer, read by counting and paging.

A scope is a set of counted entries: all, or those of a user, an action, a resource type, or an
action on a resource type. Each scope is counted for all time, by UTC month and by UTC day.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timezone
from typing import Any

from django.db import connections, models, transaction
from django.db.models.functions import TruncDate

from myometrics_core.times import utc_day

from ..log.bulk_values import row_source
from ..log.models import AuditLog, EntryCount, Leaf
from .locks import evidence_lock

ALL_TIME = date(1, 1, 1)
COUNTED_COLUMNS = ("user_id", "action", "resource_type", "timestamp")
CountKey = tuple[str, str, date]
CountedEntry = tuple[Any, str, str, datetime]
CountedCell = tuple[Any, str, str, date]
SEPARATOR = "\x1f"


def entry_scope(
    *, user_id: Any = None, action: str | None = None, resource_type: str | None = None
) -> str | None:
    """Return the scope with exactly these conditions; ``None`` if it is not counted."""
    if user_id is not None:
        return None if action is not None or resource_type is not None else user_scope(user_id)
    parts = [f"a:{_name(action)}"] if action is not None else []
    parts += [f"t:{_name(resource_type)}"] if resource_type is not None else []
    return SEPARATOR.join(parts)


def user_scope(user_id: Any) -> str:
    """Return the scope of a user's entries."""
    text = str(user_id)
    if len(text) > 200:
        text = hashlib.sha256(text.encode()).hexdigest()
    return f"u:{text}"


def count_changes(entries: Iterable[CountedEntry], sign: int = 1) -> Counter[CountKey]:
    """Return the increments of the counts by entries with :data:`COUNTED_COLUMNS`."""
    cells: Counter[CountedCell] = Counter()
    for user_id, action, resource_type, timestamp in entries:
        cells[user_id, action, resource_type, utc_day(timestamp)] += sign
    return _changes(cells)


def grouped_changes(entries: models.QuerySet[AuditLog]) -> Counter[CountKey]:
    """Return the increments of the counts by ``entries``, which the database groups."""
    day = TruncDate("timestamp", tzinfo=timezone.utc)
    groups = entries.order_by().annotate(day=day).values_list(*COUNTED_COLUMNS[:3], "day")
    rows = groups.annotate(size=models.Count("*")).iterator(chunk_size=10_000)
    with transaction.atomic(using=entries.db):  # for the cursor, behind a pooler
        cells = {(user, action, kind, start): size for user, action, kind, start, size in rows}
    return _changes(cells)


def _changes(cells: Mapping[CountedCell, int]) -> Counter[CountKey]:
    changes: Counter[CountKey] = Counter()
    for (user_id, action, resource_type, day), count in cells.items():
        for scope in _scopes(user_id, action, resource_type):
            for period, start in _periods(day):
                changes[scope, period, start] += count
    return changes


def _scopes(user_id: Any, action: str, resource_type: str) -> Iterator[str]:
    yield ""
    action, resource_type = _name(action), _name(resource_type)
    yield f"a:{action}"
    yield f"t:{resource_type}"
    yield f"a:{action}{SEPARATOR}t:{resource_type}"
    if user_id is not None:
        yield user_scope(user_id)


def _name(text: str) -> str:
    """Return ``text``, hashed if it contains the separator, because clients choose it.

    Otherwise an action alone could be counted as one on a resource type.
    """
    if SEPARATOR not in text:
        return text
    return SEPARATOR + hashlib.sha256(text.encode()).hexdigest()


def _periods(day: date) -> Iterator[tuple[str, date]]:
    yield EntryCount.Period.ALL, ALL_TIME
    yield EntryCount.Period.MONTH, day.replace(day=1)
    yield EntryCount.Period.DAY, day


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


def counts_delete_user(user_id: Any, *, using: str) -> None:
    """Delete the counts of a deleted user."""
    EntryCount.objects.using(using).filter(scope=user_scope(user_id)).delete()


def counts_rebuild(*, using: str) -> int:
    """Recount all sealed entries in one transaction; return their number."""
    with evidence_lock(using):
        EntryCount.objects.using(using).all().delete()
        sealed = Leaf.objects.using(using).filter(seal_number__isnull=False, erasure_id=None)
        entries = AuditLog._base_manager.using(using).filter(pk__in=sealed.values("entry_id"))
        facts = entries.order_by().values_list(*COUNTED_COLUMNS)
        changes = count_changes(facts.iterator(chunk_size=10_000))
        counts_add(changes, using=using)
    return changes["", EntryCount.Period.ALL, ALL_TIME]
