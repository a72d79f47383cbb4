"""Migration operations for large tables that are in use during the migration.

On PostgreSQL, ``ALTER TABLE`` blocks all queries on its table from the moment it waits for its
lock, and ``CREATE INDEX`` blocks all writes while it reads the table. These operations use a short
lock timeout and retry, or work concurrently. On other databases they behave like Django's.

An index of a partitioned table is built on each partition concurrently. PostgreSQL can drop it only
with locks on the table and all its partitions; that waits briefly, like a change of a column.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db import NotSupportedError
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import AddField, AddIndex, RemoveField, RemoveIndex
from django.db.migrations.operations.base import Operation

from .table_locks import alter_with_short_locks

__all__ = [
    "AddFieldBriefly",
    "AddIndexConcurrently",
    "RemoveFieldBriefly",
    "RemoveIndexConcurrently",
]

LOCK_TIMEOUT_MS = 2_000
"""Lock timeout of one attempt; other queries wait behind it for as long."""
MAX_ATTEMPTS = 10
PAUSE_SECONDS = 3.0
"""Pause between two attempts, in which waiting queries run."""


class _Briefly(Operation):
    """Runs the operation with a short lock timeout, several times if needed."""

    def database_forwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        alter = super().database_forwards
        _alter_briefly(schema_editor, lambda: alter(app_label, schema_editor, *states))

    def database_backwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        alter = super().database_backwards
        _alter_briefly(schema_editor, lambda: alter(app_label, schema_editor, *states))


class AddFieldBriefly(_Briefly, AddField):
    """Add a nullable column without blocking the table for long.

    The field must have no default and not be unique: either would read or rewrite the table. Raises
    ``OperationalError`` if the lock is not available; the migration can then be run again.
    """


class RemoveFieldBriefly(_Briefly, RemoveField):
    """Remove a column with the same locking as :class:`AddFieldBriefly`."""


class AddIndexConcurrently(AddIndex):
    """Create an index while the table is read and written.

    The migration needs ``atomic = False``. It can be run again after a failure: an invalid index is
    dropped and created again, a valid one is kept.
    """

    atomic = False

    def database_forwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        _change_index(_add_index, self, self.index.name, app_label, schema_editor, states[1])

    def database_backwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        _change_index(_remove_index, self, self.index.name, app_label, schema_editor, states[0])


class RemoveIndexConcurrently(RemoveIndex):
    """Drop an index while the table is read and written; see :class:`AddIndexConcurrently`."""

    atomic = False

    def database_forwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        _change_index(_remove_index, self, self.name, app_label, schema_editor, states[0])

    def database_backwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        _change_index(_add_index, self, self.name, app_label, schema_editor, states[1])


def _change_index(
    change: Callable[..., None],
    operation: Any,
    name: str,
    app_label: str,
    schema_editor: Any,
    state: Any,
) -> None:
    """Call ``change`` with the model and the index as they are in ``state``, which has both."""
    model = state.apps.get_model(app_label, operation.model_name)
    if operation.allow_migrate_model(schema_editor.connection.alias, model):
        index = state.models[app_label, operation.model_name_lower].get_index_by_name(name)
        change(schema_editor, model, index)


def _alter_briefly(schema_editor: BaseDatabaseSchemaEditor, alter: Callable[[], None]) -> None:
    set_timeout = f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"
    if schema_editor.connection.vendor != "postgresql":
        alter()
        return
    if schema_editor.collect_sql:
        schema_editor.execute(set_timeout)
        alter()
        return
    alter_with_short_locks(
        alter,
        using=schema_editor.connection.alias,
        timeout_ms=LOCK_TIMEOUT_MS,
        attempts=MAX_ATTEMPTS,
        pause_seconds=PAUSE_SECONDS,
        advice="run 'manage.py migrate' again",
    )


def _add_index(schema_editor: Any, model: Any, index: Any) -> None:
    if schema_editor.connection.vendor != "postgresql":
        if not _is_index_valid(schema_editor, model, index):
            schema_editor.add_index(model, index)
        return
    with _no_time_limits(schema_editor):
        is_valid = _is_index_valid(schema_editor, model, index)
        if not is_valid and _is_partitioned(schema_editor, model):
            _add_partitioned_index(schema_editor, model, index, exists=is_valid is False)
            return
        if is_valid is False:
            schema_editor.remove_index(model, index, concurrently=True)
        if not is_valid:
            schema_editor.add_index(model, index, concurrently=True)


def _remove_index(schema_editor: Any, model: Any, index: Any) -> None:
    if schema_editor.connection.vendor != "postgresql":
        if _is_index_valid(schema_editor, model, index):
            schema_editor.remove_index(model, index)
        return
    if _is_partitioned(schema_editor, model):
        if _is_index_valid(schema_editor, model, index) is not None:
            _alter_briefly(schema_editor, lambda: schema_editor.remove_index(model, index))
        return
    with _no_time_limits(schema_editor):
        # DROP INDEX CONCURRENTLY IF EXISTS
        schema_editor.remove_index(model, index, concurrently=True)


def _is_partitioned(schema_editor: Any, model: Any) -> bool:
    if schema_editor.collect_sql:
        return False
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_partitioned_table WHERE partrelid = to_regclass(%s)",
            [schema_editor.quote_name(model._meta.db_table)],
        )
        return cursor.fetchone() is not None


def _add_partitioned_index(schema_editor: Any, model: Any, index: Any, *, exists: bool) -> None:
    """Create the index of the table alone, then of each partition; the last makes it valid."""
    quote = schema_editor.quote_name
    if not exists:
        table = quote(model._meta.db_table)
        create = str(index.create_sql(model, schema_editor))
        only = create.replace(f" ON {table} ", f" ON ONLY {table} ", 1)
        _alter_briefly(schema_editor, lambda: schema_editor.execute(only, params=None))
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_indexdef(to_regclass(%s))", [quote(index.name)])
        definition = cursor.fetchone()[0].partition(" USING ")[2]
        # Partitions whose index is not attached yet, and the invalid index of a failed attempt.
        cursor.execute(
            "SELECT c.oid::regclass::text, c.relname FROM pg_inherits p "
            "JOIN pg_class c ON c.oid = p.inhrelid "
            "WHERE p.inhparent = to_regclass(%s) AND NOT EXISTS (SELECT 1 FROM pg_index i "
            "JOIN pg_inherits a ON a.inhrelid = i.indexrelid "
            "WHERE i.indrelid = c.oid AND a.inhparent = to_regclass(%s)) ORDER BY c.oid",
            [quote(model._meta.db_table), quote(index.name)],
        )
        partitions = cursor.fetchall()
    for partition, name in partitions:
        child = quote(_partition_index_name(index.name, name))
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {child}")
        create = f"CREATE INDEX CONCURRENTLY {child} ON {partition} USING {definition}"
        schema_editor.execute(create, params=None)
        attach = f"ALTER INDEX {quote(index.name)} ATTACH PARTITION {child}"
        # It waits for queries that read the partition, and new queries wait behind it.
        _alter_briefly(schema_editor, partial(schema_editor.execute, attach))


def _partition_index_name(index: str, partition: str) -> str:
    """Return a name of at most 63 characters that is unique in the schema."""
    digest = hashlib.sha256(partition.encode()).hexdigest()[:8]
    return f"{index[:54]}_{digest}"


def _is_index_valid(schema_editor: Any, model: Any, index: Any) -> bool | None:
    """Return whether the index is valid; ``None`` if it doesn't exist."""
    connection = schema_editor.connection
    if schema_editor.collect_sql:
        return None
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
                "WHERE c.relname = %s AND i.indrelid = to_regclass(%s)",
                [index.name, schema_editor.quote_name(model._meta.db_table)],
            )
            row = cursor.fetchone()
            return None if row is None else bool(row[0])
        names = connection.introspection.get_constraints(cursor, model._meta.db_table)
        return True if index.name in names else None


@contextmanager
def _no_time_limits(schema_editor: Any) -> Iterator[None]:
    """Disable timeouts: a timeout would leave an invalid index, and no query waits for this one."""
    if schema_editor.connection.in_atomic_block:
        raise NotSupportedError(
            "An index can't be built concurrently in a transaction: set atomic = False on the "
            "migration."
        )
    limits = ("lock_timeout", "statement_timeout")
    for name in limits:
        schema_editor.execute(f"SET {name} = 0")
    try:
        yield
    finally:
        for name in limits:
            schema_editor.execute(f"RESET {name}")
