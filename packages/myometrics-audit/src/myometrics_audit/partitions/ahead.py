"""Creation of partitions for the next ids, before they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from ..log.guards import install_guards
from .catalog import (
    TABLE,
    Bounds,
    execute,
    grants,
    next_id,
    partition_bounds,
    revocations,
    rows,
    schema_name,
)
from .models import Partition


def missing_ranges(
    following: int, taken: Sequence[tuple[int, int]], *, size: int, ahead: int
) -> list[tuple[int, int]]:
    """Return the ranges of ids that lack a partition: that of the id ``following``, and ``ahead``.

    ``taken`` are the existing ranges in order. New ones end at the next multiple of ``size``, or
    where an existing one begins.
    """
    position = following
    if not any(first <= following < end for first, end in taken):
        before = max((end for _, end in taken if end <= following), default=1)
        position = max(before, following // size * size)
    new, needed = [], ahead + 1
    while needed:
        found = next((end for first, end in taken if first <= position < end), None)
        if found is None:
            end = (position // size + 1) * size
            end = min(chain([end], (first for first, _ in taken if first > position)))
            new.append((position, end))
            found = end
        position, needed = found, needed - 1
    return new


def create_partitions_ahead(using: str, *, size: int, ahead: int) -> int:
    """Create missing partitions, in the caller's transaction; return their number.

    It waits for no writer of entries, but briefly for the lock of the table of users.
    """
    if not _missing(using, size, ahead):
        return 0
    # Two processes would create the same partitions.
    execute(using, f'LOCK TABLE "{Partition._meta.db_table}" IN SHARE ROW EXCLUSIVE MODE')
    like = partition_bounds(using)[-1].table
    ranges = _missing(using, size, ahead)
    for first_id, end_id in ranges:
        new = Bounds(first_id, end_id, f"{TABLE}_p{first_id}")
        create_table(new.table, like=like, using=using)
        attach_table(new, using=using)
        Partition.objects.using(using).create(
            first_id=new.first_id, end_id=new.end_id, table_name=new.table
        )
    if ranges:
        install_guards(using)
    return len(ranges)


def _missing(using: str, size: int, ahead: int) -> list[tuple[int, int]]:
    taken = [(bounds.first_id, bounds.end_id) for bounds in partition_bounds(using)]
    return missing_ranges(next_id(using), taken, size=size, ahead=ahead)


def create_table(name: str, *, like: str, using: str) -> None:
    """Create a table for entries, with the storage options of the partition ``like``."""
    schema = schema_name(using)
    table, parent = f'{schema}."{name}"', f'{schema}."{TABLE}"'
    ((owner, options),) = rows(
        using,
        "SELECT quote_ident(pg_get_userbyid(p.relowner)), array_to_string(l.reloptions, ', ') "
        "FROM pg_class p, pg_class l WHERE p.oid = to_regclass(%s) AND l.oid = to_regclass(%s)",
        [parent, f'{schema}."{like}"'],
    )
    storage = f" WITH ({options})" if options else ""
    execute(
        using,
        f"CREATE TABLE {table} (LIKE {parent} INCLUDING ALL EXCLUDING IDENTITY){storage}",
        f"ALTER TABLE {table} OWNER TO {owner}",
    )
    execute(using, *revocations(table, using), *grants(parent, table, using))


def attach_table(new: Bounds, *, using: str) -> None:
    """Make a table a partition."""
    schema = schema_name(using)
    execute(
        using,
        f'ALTER TABLE {schema}."{TABLE}" ATTACH PARTITION {schema}."{new.table}" '
        f"FOR VALUES FROM ({new.first_id}) TO ({new.end_id})",
    )
