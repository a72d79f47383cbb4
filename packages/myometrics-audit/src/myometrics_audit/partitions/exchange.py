"""The exchange of the table of entries by a partitioned one, of which it is the first partition.

And the way back, if there are no entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .catalog import (
    TABLE,
    execute,
    grants,
    next_id,
    owner_name,
    revocations,
    rows,
    schema_name,
    sequence_name,
)
from .obstacles import ACTIVITY_INDEX

BOUNDS = "myometrics_audit_bounds"
"""Name of the CHECK constraint with the bounds of the first partition."""


@dataclass(frozen=True)
class _Definitions:
    """SQL that was read before the exchange: it has the names that the new table gets."""

    indexes: Sequence[tuple[str, str]]
    """Names, and the statements that create them; empty for that of the primary key."""
    constraints: Sequence[str]
    owner: str


@dataclass(frozen=True)
class _Sequence:
    """The sequence of the ids."""

    name: str
    options: str | None
    """Options of an identity column; ``None`` for a default, as of Django before 4.1."""
    next_id: int
    grants: Sequence[str]


def exchange_tables(using: str, *, first_id: int, end_id: int, table: str) -> None:
    """Make today's table the partition ``table`` of a new one with its name.

    The caller holds the locks, and has validated the constraint ``BOUNDS``.
    """
    schema = schema_name(using)
    old, new = f'{schema}."{table}"', f'{schema}."{TABLE}"'
    definitions, sequence = _definitions(using, new), _sequence(using, schema)
    execute(using, f'DROP INDEX IF EXISTS {schema}."{ACTIVITY_INDEX}"')
    execute(using, f'ALTER TABLE {new} RENAME TO "{table}"')
    suffix = f"_p{first_id}"
    for name, _ in definitions.indexes:
        renamed = f"{name[: 63 - len(suffix)]}{suffix}"
        execute(using, f'ALTER INDEX {schema}."{name}" RENAME TO "{renamed}"')
    _create_columns(using, new, like=old, owner=definitions.owner, rest="PARTITION BY RANGE (id)")
    _move_sequence(using, sequence, old=old, new=new)
    execute(using, *definitions.constraints)
    execute(using, *(create for _, create in definitions.indexes if create))
    bounds = f"FROM ({first_id}) TO ({end_id})"
    execute(using, f"ALTER TABLE {new} ATTACH PARTITION {old} FOR VALUES {bounds}")


def exchange_empty_table(using: str) -> None:
    """Replace the partitioned table, which has no entries, by an ordinary one with its name.

    The caller holds the lock.
    """
    schema = schema_name(using)
    table = f'{schema}."{TABLE}"'
    new = f'{schema}."{TABLE}_new"'
    definitions, sequence = _definitions(using, table), _sequence(using, schema)
    ((storage,),) = rows(
        using,
        "SELECT 'WITH (' || array_to_string(c.reloptions, ', ') || ')' FROM pg_inherits i "
        "JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass(%s) "
        "ORDER BY c.oid LIMIT 1",
        [table],
    ) or [(None,)]
    _create_columns(using, new, like=table, owner=definitions.owner, rest=storage or "")
    _move_sequence(using, sequence, old=table, new=new)
    execute(
        using,
        f"DROP TABLE {table}",
        f'ALTER TABLE {new} RENAME TO "{TABLE}"',
        *definitions.constraints,
        *(create for _, create in definitions.indexes if create),
        f'CREATE UNIQUE INDEX "{ACTIVITY_INDEX}" ON {table} (activity_id) '
        "WHERE activity_id IS NOT NULL",
    )


def _create_columns(using: str, table: str, *, like: str, owner: str, rest: str) -> None:
    """Create a table with the columns, owner and privileges of another one."""
    execute(
        using,
        f"CREATE TABLE {table} (LIKE {like} INCLUDING ALL EXCLUDING CONSTRAINTS EXCLUDING IDENTITY "
        f"EXCLUDING INDEXES) {rest}",
        f"ALTER TABLE {table} OWNER TO {owner}",
    )
    execute(using, *revocations(table, using), *grants(like, table, using))


def _definitions(using: str, new: str) -> _Definitions:
    table = f'"{TABLE}"'
    indexes = rows(
        using,
        "SELECT c.relname, CASE WHEN i.indisprimary THEN '' ELSE pg_get_indexdef(c.oid) END "
        "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE i.indrelid = to_regclass(%s) AND c.relname <> %s ORDER BY c.oid",
        [table, ACTIVITY_INDEX],
    )
    # NOT NULL is part of the columns; PostgreSQL 18 lists it as a constraint.
    constraints = rows(
        using,
        "SELECT quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = to_regclass(%s) AND contype IN ('p', 'f', 'c') "
        "AND conname <> %s ORDER BY contype DESC, oid",
        [table, BOUNDS],
    )
    additions = [f"ALTER TABLE {new} ADD CONSTRAINT {name} {text}" for name, text in constraints]
    return _Definitions(indexes, additions, owner_name(using))


def _sequence(using: str, schema: str) -> _Sequence:
    name = str(sequence_name(using))
    ((is_identity, options),) = rows(
        using,
        "SELECT a.attidentity <> '', format('SEQUENCE NAME %%s.%%I START WITH %%s INCREMENT BY "
        "%%s MINVALUE %%s MAXVALUE %%s CACHE %%s', %s::text, c.relname, s.seqstart, "
        "s.seqincrement, s.seqmin, s.seqmax, s.seqcache) FROM pg_sequence s "
        "JOIN pg_class c ON c.oid = s.seqrelid CROSS JOIN pg_attribute a "
        "WHERE c.oid = to_regclass(%s) AND a.attrelid = to_regclass(%s) AND a.attname = 'id'",
        [schema, name, f'"{TABLE}"'],
    )
    following = next_id(using)
    return _Sequence(name, options if is_identity else None, following, grants(name, name, using))


def _move_sequence(using: str, sequence: _Sequence, *, old: str, new: str) -> None:
    """Let the ids of the new table continue, with a sequence of the same name."""
    if sequence.options is None:
        execute(
            using,
            f"ALTER SEQUENCE {sequence.name} OWNED BY {new}.id",
            f"ALTER TABLE {old} ALTER COLUMN id DROP DEFAULT",
        )
        return
    execute(
        using,
        # PostgreSQL 17 refuses a partition with a sequence of its own.
        f"ALTER TABLE {old} ALTER COLUMN id DROP IDENTITY",
        f"ALTER TABLE {new} ALTER COLUMN id "
        f"ADD GENERATED BY DEFAULT AS IDENTITY ({sequence.options})",
    )
    rows(using, "SELECT setval(%s, %s, false)", [sequence.name, sequence.next_id])
    execute(using, *revocations(sequence.name, using), *sequence.grants)
