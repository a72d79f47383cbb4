"""Check and restore the triggers on the partitioned table and its partitions."""

from __future__ import annotations

from django.db import transaction

from .catalog import TABLE, execute, is_partitioned, partition_bounds, rows
from .closing import match_catalog
from .models import Conversion, Partition
from .recorded_activities import (
    TRIGGERS,
    create_triggers,
    drop_triggers,
    record_existing,
    restart_recording,
)


def missing_triggers(using: str) -> list[str]:
    """Return the names of missing and disabled triggers that record activities."""
    return [f"{trigger} of {table}" for table, trigger in _missing(using)]


def restore_partitions(using: str) -> None:
    """Restore triggers and the rows of ``Partition`` after ``migrate`` and ``flush``.

    Activities of entries that were written without the triggers are recorded.
    """
    if not is_partitioned(using) or not _has_tables(using):
        return
    if missing := _missing(using):
        with transaction.atomic(using=using):
            _restore(missing, using)
            restart_recording(using)
    if Conversion.objects.using(using).exists():
        record_existing(using, lambda done, total: None)
        Conversion.objects.using(using).all().delete()
    match_catalog(using)


def _restore(missing: list[tuple[str, str]], using: str) -> None:
    if any(table == TABLE for table, _ in missing):
        drop_triggers(using)
        create_triggers(using)
    else:
        # PostgreSQL made them with those of the table, so they can only be disabled.
        execute(using, *(f'ALTER TABLE "{table}" ENABLE TRIGGER {name}' for table, name in missing))


def _has_tables(using: str) -> bool:
    """Return whether the app is migrated; it may have been removed from an empty log."""
    sql = "SELECT to_regclass(%s) IS NOT NULL"
    return bool(rows(using, sql, [f'"{Partition._meta.db_table}"'])[0][0])


def _missing(using: str) -> list[tuple[str, str]]:
    present = rows(
        using,
        "SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "WHERE t.tgname = ANY(%s) AND t.tgenabled IN ('O', 'A') "
        "AND pg_table_is_visible(t.tgrelid)",
        [list(TRIGGERS)],
    )
    tables = [TABLE, *(bounds.table for bounds in partition_bounds(using))]
    expected = [(table, trigger) for table in tables for trigger in TRIGGERS]
    return [pair for pair in expected if pair not in present]
