"""Drop a partition, or replace it by one with some of its entries."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connections

from ..log.guards import install_guards
from .ahead import attach_table, create_table
from .catalog import TABLE, Bounds, execute, rows, schema_name
from .closing import mark_closed
from .models import Partition


def replace_partition(partition: Partition, kept: Sequence[int], using: str) -> None:
    """Drop a partition; one with the same ids and the ``kept`` entries takes its place.

    The caller has set a short ``lock_timeout``: writers wait behind the lock of the table.
    """
    schema = schema_name(using)
    table = f'{schema}."{partition.table_name}"'
    new = f"{partition.table_name}_kept"
    if kept:
        create_table(new, like=partition.table_name, using=using)
        _copy(table, f'{schema}."{new}"', kept, using)
    execute(using, f'LOCK TABLE {schema}."{TABLE}" IN ACCESS EXCLUSIVE MODE')
    execute(using, f"DROP TABLE {table}")
    if not kept:
        Partition.objects.using(using).filter(pk=partition.pk).delete()
        return
    execute(using, f'ALTER TABLE {schema}."{new}" RENAME TO "{partition.table_name}"')
    attach_table(Bounds(partition.first_id, partition.end_id, partition.table_name), using=using)
    install_guards(using)
    mark_closed(partition, using)


def _copy(source: str, target: str, kept: Sequence[int], using: str) -> None:
    """Copy entries. The new table has no triggers yet: their activities are recorded already."""
    sql = (
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
    )
    columns = rows(using, sql, [target])[0][0]
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {source} WHERE id = ANY(%s)",
            [list(kept)],
        )
