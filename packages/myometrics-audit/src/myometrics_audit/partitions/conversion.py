"""Conversion of the table of entries into a partitioned one, while it is read and written.

1. Triggers record the activity ids of new entries; those of existing entries are copied in batches.
2. A CHECK constraint says that all ids are in the bounds of the first partition, and is validated
   without a lock that blocks writers. With it, PostgreSQL attaches the table without reading it.
3. One transaction with short lock time-outs renames the table, creates the partitioned table under
   its name, and attaches the old one as the first partition. Its indexes and its foreign key are
   used as they are.

Each step can be repeated: after a failure, a second run continues.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from django.db import connections, transaction

from myometrics_core.db.table_locks import alter_with_short_locks

from ..log.guards import PREFIX, install_guards
from . import recorded_activities
from .ahead import create_partitions_ahead
from .catalog import TABLE, execute, is_partitioned, next_id, rows
from .exchange import BOUNDS, exchange_tables
from .models import Conversion, Partition
from .obstacles import find_obstacles

# Two locks are awaited one after the other. Together they must take less than PostgreSQL's
# deadlock_timeout, after which it would cancel a writer that waits for us.
LOCK_TIMEOUT_MS: Final = 400
MAX_ATTEMPTS: Final = 100
PAUSE_SECONDS: Final = 2.0
ADVICE: Final = "run 'manage.py audit_partition' again"
FINISH: Final = (
    "Run 'manage.py audit_partition' again as the owner of the tables; 'manage.py migrate "
    "myometrics_audit_partitions zero' undoes it."
)

Progress = Callable[[int, int], object]


class ConversionRefused(Exception):
    """The table can't be converted as it is; ``obstacles`` say what to do."""

    def __init__(self, obstacles: list[str]) -> None:
        super().__init__("\n".join(obstacles))
        self.obstacles = obstacles


@dataclass(frozen=True)
class Plan:
    """The ids of the first partition."""

    first_id: int
    end_id: int

    @property
    def table(self) -> str:
        return f"{TABLE}_p{self.first_id}"


def plan_conversion(using: str, *, size: int) -> Plan:
    """Return the bounds of the first partition. Raises ``ConversionRefused``."""
    if obstacles := list(find_obstacles(using)):
        raise ConversionRefused(obstacles)
    lowest = rows(using, f'SELECT min(id) FROM "{TABLE}"')[0][0]
    return Plan(min(1, 1 if lowest is None else lowest), _boundary(next_id(using), size))


def convert(
    using: str, *, size: int, ahead: int, progress: Progress = lambda done, total: None
) -> None:
    """Convert the table of entries. ``progress`` is called with the ids done and to do.

    No effect if another process has converted it. Raises ``ConversionRefused``, and
    ``OperationalError`` if the table was in use for too long.
    """
    if is_partitioned(using):
        return
    plan_conversion(using, size=size)
    _briefly(using, lambda: recorded_activities.start_recording(using))
    recorded_activities.record_existing(using, progress)
    _validate_bounds(using, size)
    _briefly(using, lambda: _swap(using, size=size, ahead=ahead))
    execute(using, f'ANALYZE "{TABLE}"')


def _boundary(following: int, size: int) -> int:
    """Return the end of the first partition, with free ids for entries that are written now."""
    return ((following + max(size, following // 10)) // size + 1) * size


def _validate_bounds(using: str, size: int) -> None:
    """Add the constraint; replace it if the sequence is too close to its end."""
    plan = _checked_bounds(using)
    if plan is None or plan.end_id - next_id(using) < size // 2:
        _briefly(using, lambda: _add_bounds(using, size))
    with transaction.atomic(using=using):
        execute(
            using,
            "SET LOCAL statement_timeout = 0",
            f'LOCK TABLE "{TABLE}" IN SHARE UPDATE EXCLUSIVE MODE',
        )
        if not is_partitioned(using):
            execute(using, f'ALTER TABLE "{TABLE}" VALIDATE CONSTRAINT {BOUNDS}')


def _add_bounds(using: str, size: int) -> None:
    execute(using, f'LOCK TABLE "{TABLE}" IN ACCESS EXCLUSIVE MODE')
    if is_partitioned(using):
        return  # the constraint would remain on the partitioned table
    plan = plan_conversion(using, size=size)
    execute(
        using,
        f'ALTER TABLE "{TABLE}" DROP CONSTRAINT IF EXISTS {BOUNDS}, ADD CONSTRAINT {BOUNDS} '
        f"CHECK (id >= {plan.first_id} AND id < {plan.end_id}) NOT VALID",
    )


def _checked_bounds(using: str, *, valid_only: bool = False) -> Plan | None:
    """Return the bounds in the constraint, which an earlier run may have made."""
    found = rows(
        using,
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = to_regclass(%s) AND conname = %s AND (convalidated OR NOT %s)",
        [f'"{TABLE}"', BOUNDS, valid_only],
    )
    match = found and re.search(r"id >= '?\(?(-?\d+).*id < '?(\d+)", found[0][0])
    return Plan(int(match[1]), int(match[2])) if match else None


def unfinished_conversion(using: str) -> Plan | None:
    """Return the bounds outside of which entries are refused until the conversion is finished."""
    return _checked_bounds(using) if connections[using].vendor == "postgresql" else None


def _briefly(using: str, alter: Callable[[], None]) -> None:
    alter_with_short_locks(
        alter,
        using=using,
        timeout_ms=LOCK_TIMEOUT_MS,
        attempts=MAX_ATTEMPTS,
        pause_seconds=PAUSE_SECONDS,
        advice=ADVICE,
    )


def _swap(using: str, *, size: int, ahead: int) -> None:
    execute(using, f'LOCK TABLE "{TABLE}" IN ACCESS EXCLUSIVE MODE')
    Conversion.objects.using(using).all().delete()
    if is_partitioned(using):
        return  # another process converted it first
    plan = _checked_bounds(using, valid_only=True)
    if plan is None:
        raise ConversionRefused(["Another process has begun to convert it."])
    referenced = (
        "SELECT DISTINCT confrelid::regclass::text FROM pg_constraint "
        "WHERE conrelid = to_regclass(%s) AND contype = 'f'"
    )
    for (table,) in rows(using, referenced, [f'"{TABLE}"']):
        execute(using, f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
    recorded_activities.drop_triggers(using)
    execute(using, f'DROP TRIGGER IF EXISTS {PREFIX}_auditlog_row ON "{TABLE}"')
    exchange_tables(using, first_id=plan.first_id, end_id=plan.end_id, table=plan.table)
    execute(using, f'ALTER TABLE "{plan.table}" DROP CONSTRAINT {BOUNDS}')
    install_guards(using)
    recorded_activities.create_triggers(using)
    Partition.objects.using(using).all().delete()
    Partition.objects.using(using).create(
        first_id=plan.first_id, end_id=plan.end_id, table_name=plan.table
    )
    create_partitions_ahead(using, size=size, ahead=ahead)
