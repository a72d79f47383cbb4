"""Closing of full partitions, and the comparison of their rows with the catalogs."""

from __future__ import annotations

import logging
import time
from typing import Final

from django.db import OperationalError, transaction
from django.utils import timezone

from myometrics_core.db import read_committed
from myometrics_core.db.table_locks import is_lock_timeout

from ..log.closed_ranges import ranges_with_other_times
from ..log.models import Leaf
from ..sealing.locks import try_evidence_lock
from .catalog import TABLE, Bounds, execute, is_partitioned, next_id, partition_bounds, rows
from .functions import create_function
from .models import Partition

logger = logging.getLogger("myometrics.audit.partitions")

TRIGGER: Final = "myometrics_audit_closed"
POLL_SECONDS: Final = 0.05

_RULES = (
    " BEGIN RAISE EXCEPTION 'myometrics_audit: the partition % is closed; new entries get "
    "higher ids', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; END "
)


def close_partitions(using: str, *, patience: float, timeout_ms: int) -> int:
    """Close the partitions that get no more entries and are sealed; return their number.

    Waits at most ``patience`` seconds for transactions that may still write to them; the others
    are closed by the next call.
    """
    past = Partition.objects.using(using).filter(closed_at=None, end_id__lte=next_id(using))
    over = [partition for partition in past if not has_unsealed(partition, using)]
    if not over or not _wait_for_writers(using, patience):
        return 0
    return sum(_close(partition, using, timeout_ms) for partition in over)


def has_unsealed(partition: Partition, using: str) -> bool:
    """Return whether a leaf of the partition is not sealed."""
    unsealed = Leaf.objects.using(using).filter(seal_number=None)
    within = unsealed.filter(entry_id__gte=partition.first_id, entry_id__lt=partition.end_id)
    return within.exists()


def _wait_for_writers(using: str, patience: float) -> bool:
    """Wait until the transactions that write entries now have ended.

    One of them may have taken an id from the sequence and not inserted its entry yet. Later ones
    get ids behind the partition.
    """
    ends = time.monotonic() + patience
    writers = _writers(using)
    while writers & _writers(using):
        if time.monotonic() >= ends:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _writers(using: str) -> set[str]:
    """Return the virtual ids of transactions that have locked the table of entries to write."""
    found = rows(
        using,
        "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND relation = to_regclass(%s) AND mode = 'RowExclusiveLock' "
        "AND pid IS DISTINCT FROM pg_backend_pid()",
        [f'"{TABLE}"'],
    )
    return {writer for (writer,) in found}


def _close(partition: Partition, using: str, timeout_ms: int) -> bool:
    try:
        with read_committed(using), try_evidence_lock(using) as is_ours:
            # Otherwise the sealer or an erasure holds the lock.
            return is_ours and _close_locked(partition, using, timeout_ms)
    except OperationalError as error:
        if not is_lock_timeout(error):
            raise
        logger.info("The partition %s is in use, and is closed later", partition.table_name)
        return False


def _close_locked(partition: Partition, using: str, timeout_ms: int) -> bool:
    table = f'"{partition.table_name}"'
    execute(
        using,
        f"SET LOCAL lock_timeout = {timeout_ms:d}",
        f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE",
    )
    if has_unsealed(partition, using):
        return False
    mark_closed(partition, using)
    return True


def mark_closed(partition: Partition, using: str) -> None:
    """Let a partition refuse new entries, and note the times of those that it has."""
    table = f'"{partition.table_name}"'
    create_function(TRIGGER, _RULES, using)
    execute(
        using,
        f"DROP TRIGGER IF EXISTS {TRIGGER} ON {table}",  # a disabled one
        f"CREATE TRIGGER {TRIGGER} BEFORE INSERT ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {TRIGGER}()",
    )
    ((oldest, newest),) = rows(using, f"SELECT min(timestamp), max(timestamp) FROM {table}")
    Partition.objects.using(using).filter(pk=partition.pk).update(
        closed_at=timezone.now(), oldest=oldest, newest=newest
    )


def match_catalog(using: str) -> None:
    """Make the rows of ``Partition`` those of the database's partitions.

    They differ after ``flush``, ``loaddata``, or DDL by hand. A partition is closed if both its row
    and its trigger say so, and its times include those of its entries; else it is opened, and
    closed again later.
    """
    if not is_partitioned(using):
        Partition.objects.using(using).all().delete()
        return
    if not _differences(using):
        return  # without a lock, for which a role that only writes entries has no privilege
    objects = Partition.objects.using(using)
    with transaction.atomic(using=using):
        # A partition and its row are dropped in one transaction.
        execute(using, f'LOCK TABLE "{Partition._meta.db_table}" IN SHARE ROW EXCLUSIVE MODE')
        triggers = _closed_tables(using)
        for table, bounds in _differences(using).items():
            objects.filter(table_name=table).delete()
            if bounds is None:
                continue
            if table in triggers:
                execute(using, f'DROP TRIGGER {TRIGGER} ON "{table}"')
            objects.filter(first_id=bounds.first_id).delete()
            objects.create(first_id=bounds.first_id, end_id=bounds.end_id, table_name=table)


def _differences(using: str) -> dict[str, Bounds | None]:
    """Map the tables whose row is missing or wrong to their bounds; ``None`` if they are gone."""
    triggers = _closed_tables(using)
    actual = {bounds.table: bounds for bounds in partition_bounds(using)}
    known = {row.table_name: row for row in Partition.objects.using(using).all()}
    wrong = {closed.first_id for closed in ranges_with_other_times(using)}
    different: dict[str, Bounds | None] = {table: None for table in known if table not in actual}
    for table, bounds in actual.items():
        row = known.get(table)
        is_closed = bool(row and row.closed_at)
        is_right = is_closed == (table in triggers) and bounds.first_id not in wrong
        if not row or row.end_id != bounds.end_id or not is_right:
            different[table] = bounds
    return different


def _closed_tables(using: str) -> set[str]:
    found = rows(
        using,
        "SELECT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "JOIN pg_inherits i ON i.inhrelid = c.oid "
        "WHERE t.tgname = %s AND t.tgenabled IN ('O', 'A') AND i.inhparent = to_regclass(%s)",
        [TRIGGER, f'"{TABLE}"'],
    )
    return {table for (table,) in found}
