"""Insertion of entries together with their leaves.

The ORM compiles the statement again for each entry, which costs more than running it. Here its text
is built once; values pass through the same fields as in the ORM.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, GenericIPAddressField, JSONField, Model

from myometrics_core.db import fetch_rows


def insert_entry(
    entry: Model, *, leaf_table: str, leaf: tuple[bytes, str, int], using: str
) -> None:
    """Insert a new entry and its leaf, and set the entry's id. Sends no model signals.

    ``leaf`` is its hash, key id and version.

    One statement on PostgreSQL, one transaction on other databases.
    """
    connection = connections[using]
    has_id = entry.pk is not None
    fields = entry._meta.concrete_fields[0 if has_id else 1 :]
    values = [_prepared(field, getattr(entry, field.attname), connection) for field in fields]
    insert, insert_both = _insert_sql(type(entry), leaf_table, has_id)
    if connection.vendor == "postgresql":
        entry.pk = fetch_rows(insert_both, [*values, *leaf], using=using)[0][0]
    else:
        with transaction.atomic(using, savepoint=False), connection.cursor() as cursor:
            cursor.execute(insert, values)
            entry.pk = entry.pk if has_id else cursor.lastrowid
            cursor.execute(
                f'INSERT INTO "{leaf_table}" (entry_id, hash, key_id, version) '
                "VALUES (%s, %s, %s, %s)",
                [entry.pk, *leaf],
            )
    entry._state.adding = False
    entry._state.db = using


def insert_entries_at_once(
    entries: Sequence[Model],
    *,
    leaf_table: str,
    leaves: Sequence[tuple[bytes, str, int]],
    using: str,
) -> None:
    """Insert new entries without ids and their leaves in one statement, and set the ids.

    PostgreSQL only. Sends no model signals.
    """
    connection = connections[using]
    fields = type(entries[0])._meta.concrete_fields[1:]
    columns = [_column(field, entries, connection) for field in fields]
    types = tuple(_array_types(field, connection) for field in fields)
    parameters = [*columns, *(list(column) for column in zip(*leaves, strict=True))]
    sql = _insert_many_sql(type(entries[0]), leaf_table, types)
    for entry, (key,) in zip(entries, fetch_rows(sql, parameters, using=using), strict=True):
        entry.pk = key
        entry._state.adding = False
        entry._state.db = using


def _column(
    field: Field[Any, Any], entries: Sequence[Model], connection: BaseDatabaseWrapper
) -> list[Any]:
    values = [getattr(entry, field.attname) for entry in entries]
    # As text: drivers refuse arrays that mix IPv4 and IPv6.
    if isinstance(field, GenericIPAddressField):
        return values
    if isinstance(field, JSONField):
        return [json.dumps(value, cls=field.encoder) for value in values]
    return [_prepared(field, value, connection) for value in values]


def _array_types(field: Field[Any, Any], connection: BaseDatabaseWrapper) -> tuple[str, str]:
    """Return the type of a column's values in the parameter, and in the table."""
    # Without the length: a cast to varchar(50) would truncate instead of failing.
    stored = str(field.db_type(connection)).partition("(")[0]
    as_text = isinstance(field, GenericIPAddressField | JSONField)
    return ("text" if as_text else stored), stored


@lru_cache(maxsize=4)
def _insert_many_sql(
    model: type[Model], leaf_table: str, types: tuple[tuple[str, str], ...]
) -> str:
    """Return the statement that inserts entries and their leaves from arrays, in their order."""
    table = model._meta.db_table
    columns = ", ".join(f'"{field.column}"' for field in model._meta.concrete_fields[1:])
    names = [f"c{number}" for number in range(len(types))]
    arrays = [f"%s::{parameter}[]" for parameter, _ in types]
    values = ", ".join(f"{name}::{stored}" for name, (_, stored) in zip(names, types, strict=True))
    return (
        f"WITH new AS MATERIALIZED (SELECT nextval(pg_get_serial_sequence('\"{table}\"', 'id'))"
        f" AS id, given.* FROM unnest({', '.join([*arrays, '%s::bytea[], %s::text[], %s::int[]'])})"
        f" WITH ORDINALITY AS given ({', '.join(names)}, hash, key_id, version, place)), "
        f'entry AS (INSERT INTO "{table}" (id, {columns}) SELECT id, {values} FROM new), '
        f'leaf AS (INSERT INTO "{leaf_table}" (entry_id, hash, key_id, version) '
        "SELECT id, hash, key_id, version FROM new) "
        "SELECT id FROM new ORDER BY place"
    )


def _prepared(field: Field[Any, Any], value: Any, connection: BaseDatabaseWrapper) -> Any:
    # NULL and bytes are the same for every field and every database.
    if value is None or type(value) is bytes:
        return value
    return field.get_db_prep_save(value, connection)


@lru_cache(maxsize=4)
def _insert_sql(model: type[Model], leaf_table: str, has_id: bool) -> tuple[str, str]:
    """Return the statement that inserts an entry, and the one that also inserts its leaf."""
    fields = model._meta.concrete_fields[0 if has_id else 1 :]
    columns = ", ".join(f'"{field.column}"' for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    insert = f'INSERT INTO "{model._meta.db_table}" ({columns}) VALUES ({marks})'
    insert_both = (
        f'WITH entry AS ({insert} RETURNING "id") INSERT INTO "{leaf_table}" '
        "(entry_id, hash, key_id, version) SELECT id, %s, %s, %s FROM entry RETURNING entry_id"
    )
    return insert, insert_both
