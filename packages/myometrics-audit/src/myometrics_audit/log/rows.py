"""Fast reads and writes of the log's rows.

The ORM compiles each statement again, which costs more than running it. Here the text of a
statement is built once; values pass through the same fields and converters as in the ORM.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import connections
from django.db.models import Field

from myometrics_core.db import fetch_rows

if TYPE_CHECKING:
    from .models import AuditLog

__all__ = ["COLUMNS", "DETAIL_COLUMNS", "LONGEST", "read_rows", "write_entry"]

COLUMNS = (
    "id",
    "user_id",
    "action",
    "resource_type",
    "resource_id",
    "timestamp",
    "ip_address",
    "user_agent",
    "details",
)
"""Columns of an entry in the API's list, in order."""

DETAIL_COLUMNS = (*COLUMNS, "origin")
"""Columns of a single entry in the API, and of exports."""

LONGEST = {"action": 50, "resource_type": 50, "resource_id": 100}
"""Maximum lengths of an entry's text columns, in characters."""


def write_entry(entry: AuditLog, leaf: bytes, key_id: str, using: str) -> None:
    """Insert a new entry and its leaf, and set the entry's id. Sends no model signals.

    One statement on PostgreSQL; on other databases the caller must open a transaction.
    """
    connection = connections[using]
    has_id: bool = entry.pk is not None
    fields = _fields() if has_id else _fields()[1:]
    values = [field.get_db_prep_save(getattr(entry, field.attname), connection) for field in fields]
    if connection.vendor == "postgresql":
        sql = _insert_both_sql(len(fields))
        entry.pk = fetch_rows(sql, [*values, leaf, key_id], using=using)[0][0]
    else:
        with connection.cursor() as cursor:
            cursor.execute(_insert_sql(len(fields)), values)
            entry.pk = entry.pk if has_id else cursor.lastrowid
            cursor.execute(_leaf_sql("VALUES (%s, %s, %s)"), [entry.pk, leaf, key_id])
    entry._state.adding = False
    entry._state.db = using


def read_rows(
    where: str, values: Sequence[Any], order: str, limit: str, using: str, extra: str = "NULL"
) -> tuple[list[dict[str, Any]], Any]:
    """Return entries as dictionaries of :data:`COLUMNS`, and the value of ``extra``.

    ``where`` (on the table as ``a``, after ``TRUE``), ``order``, ``limit`` and ``extra`` are SQL.
    The value of ``extra`` is ``None`` if there are no rows.
    """
    connection = connections[using]
    columns = ", ".join(f'a."{name}"' for name in COLUMNS)
    table = _fields()[0].model._meta.db_table
    sql = f'SELECT {columns}, ({extra}) FROM "{table}" a WHERE TRUE{where} ORDER BY {order}{limit}'
    found = fetch_rows(sql, values, using=using)
    for position, convert, expression in _converters(using):
        found = [
            (*row[:position], convert(row[position], expression, connection), *row[position + 1 :])
            for row in found
        ]
    rows = [dict(zip(COLUMNS, row, strict=False)) for row in found]
    return rows, (found[0][-1] if found else None)


@lru_cache(maxsize=1)
def _fields() -> tuple[Field[Any, Any], ...]:
    fields = apps.get_model("myometrics_audit", "AuditLog")._meta.concrete_fields
    return tuple(fields)


@lru_cache(maxsize=2)
def _insert_sql(count: int) -> str:
    fields = _fields()[-count:]
    columns = ", ".join(f'"{field.column}"' for field in fields)
    marks = ", ".join(["%s"] * count)
    return f'INSERT INTO "{fields[0].model._meta.db_table}" ({columns}) VALUES ({marks})'


@lru_cache(maxsize=2)
def _insert_both_sql(count: int) -> str:
    leaf = _leaf_sql("SELECT id, %s, %s FROM entry")
    return f'WITH entry AS ({_insert_sql(count)} RETURNING "id") {leaf} RETURNING entry_id'


def _leaf_sql(source: str) -> str:
    table = apps.get_model("myometrics_audit", "Leaf")._meta.db_table
    return f'INSERT INTO "{table}" (entry_id, hash, key_id) {source}'


@lru_cache(maxsize=8)
def _converters(using: str) -> list[tuple[int, Any, Any]]:
    """Return the converters of database values: (position, function, expression)."""
    entries = _fields()[0].model._base_manager.using(using).values_list(*COLUMNS)
    compiler = entries.query.get_compiler(using)
    compiler.setup_query()
    expressions = [column for column, _, _ in compiler.select[: len(COLUMNS)]]
    found = compiler.get_converters(expressions)
    return [
        (position, convert, expression)
        for position, (converts, expression) in found.items()
        for convert in converts
    ]
