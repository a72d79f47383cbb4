"""Stored counts of sealed entries: written by the sealer, read by counting and paging."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import connections

from ..log.bulk_values import row_source
from ..log.models import AuditLog, EntryCount, Leaf
from .locks import evidence_lock
from .scopes import ALL_TIME, COUNTED, CountKey, count_changes, user_scope

__all__ = ["counts_add", "counts_drop_user", "counts_rebuild"]


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
    """Delete the counts of a deleted user."""
    EntryCount.objects.using(using).filter(scope=user_scope(user_id)).delete()


def counts_rebuild(*, using: str) -> int:
    """Recount all sealed entries in one transaction; return their number."""
    with evidence_lock(using):
        EntryCount.objects.using(using).all().delete()
        sealed = Leaf.objects.using(using).filter(seal_number__isnull=False, erasure_id=None)
        entries = AuditLog._base_manager.using(using).filter(pk__in=sealed.values("entry_id"))
        facts = entries.order_by().values_list(*COUNTED)
        changes = count_changes(facts.iterator(chunk_size=10_000))
        counts_add(changes, using=using)
    return changes["", EntryCount.Period.ALL, ALL_TIME]
