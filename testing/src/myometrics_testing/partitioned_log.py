"""An audit log in partitions of any size, for tests and benchmarks on PostgreSQL."""

from __future__ import annotations

from itertools import pairwise

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Max, Min
from django.utils import timezone

from myometrics_audit.models import AuditLog
from myometrics_audit.partitions.catalog import rows
from myometrics_audit.partitions.models import Partition

LOG = AuditLog._meta.db_table


def partition_log(*bounds: int, using: str = DEFAULT_DB_ALIAS) -> None:
    """Put the entries into partitions: from each bound up to, but not including, the next one."""
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s "
            "AND indexdef NOT LIKE '%%UNIQUE%%'",
            [LOG],
        )
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f'DROP INDEX "{name}"')
        cursor.execute(f'ALTER TABLE "{LOG}" RENAME TO unpartitioned')
        cursor.execute(
            f'CREATE TABLE "{LOG}" (LIKE unpartitioned INCLUDING DEFAULTS INCLUDING IDENTITY, '
            "PRIMARY KEY (id)) PARTITION BY RANGE (id)"
        )
        for first_id, end_id in pairwise(bounds):
            create_partition(first_id, end_id, using=using)
        cursor.execute(f'INSERT INTO "{LOG}" SELECT * FROM unpartitioned')
        cursor.execute("DROP TABLE unpartitioned")
        for _, definition in indexes:
            cursor.execute(definition)


def create_partition(first_id: int, end_id: int, *, using: str = DEFAULT_DB_ALIAS) -> None:
    """Create an empty partition."""
    table = f"{LOG}_p{first_id}"
    with connections[using].cursor() as cursor:
        cursor.execute(
            f'CREATE TABLE "{table}" PARTITION OF "{LOG}" '
            f"FOR VALUES FROM ({first_id}) TO ({end_id})"
        )
    partitions = Partition.objects.using(using)
    partitions.create(first_id=first_id, end_id=end_id, table_name=table)


def close_partition(first_id: int, *, using: str = DEFAULT_DB_ALIAS) -> None:
    """Close a partition, as the job does."""
    partitions = Partition.objects.using(using).filter(pk=first_id)
    entries = AuditLog.objects.using(using)
    within = entries.filter(pk__gte=first_id, pk__lt=partitions.get().end_id)
    times = within.aggregate(oldest=Min("timestamp"), newest=Max("timestamp"))
    partitions.update(closed_at=timezone.now(), **times)


def is_waiting() -> bool:
    """Whether another connection to this database waits for a lock."""
    sql = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()"
    )
    return bool(rows("default", sql))
