"""A partitioned log for tests, on PostgreSQL."""

from __future__ import annotations

from itertools import pairwise

from django.db import connection
from django.db.models import Max, Min
from django.utils import timezone

from myometrics_audit.models import AuditLog
from myometrics_audit.partitions.catalog import rows
from myometrics_audit.partitions.models import Partition

LOG = AuditLog._meta.db_table


def partition_log(*bounds: int) -> None:
    """Put the entries into partitions: from each bound up to, but not including, the next one."""
    with connection.cursor() as cursor:
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
            create_partition(first_id, end_id)
        cursor.execute(f'INSERT INTO "{LOG}" SELECT * FROM unpartitioned')
        cursor.execute("DROP TABLE unpartitioned")
        for _, definition in indexes:
            cursor.execute(definition)


def create_partition(first_id: int, end_id: int) -> None:
    """Create an empty partition."""
    table = f"{LOG}_p{first_id}"
    with connection.cursor() as cursor:
        cursor.execute(
            f'CREATE TABLE "{table}" PARTITION OF "{LOG}" '
            f"FOR VALUES FROM ({first_id}) TO ({end_id})"
        )
    Partition.objects.create(first_id=first_id, end_id=end_id, table_name=table)


def close_partition(first_id: int) -> None:
    """Close a partition, as the job does."""
    partition = Partition.objects.get(pk=first_id)
    entries = AuditLog.objects.filter(pk__gte=first_id, pk__lt=partition.end_id)
    times = entries.aggregate(oldest=Min("timestamp"), newest=Max("timestamp"))
    Partition.objects.filter(pk=first_id).update(closed_at=timezone.now(), **times)


def is_waiting():
    """Whether another connection to this database waits for a lock."""
    sql = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()"
    )
    return bool(rows("default", sql))
