"""Insertion of an entry together with its leaf.

The ORM compiles the statement again for each entry, which costs more than running it. Here its text
is built once; values pass through the same fields as in the ORM.
"""

from __future__ import annotations

from functools import lru_cache

from django.db import connections, transaction
from django.db.models import Model

from myometrics_core.db import fetch_rows

__all__ = ["insert_entry"]


def insert_entry(
    entry: Model, *, leaf_table: str, leaf_hash: bytes, key_id: str, using: str
) -> None:
    """Insert a new entry and its leaf, and set the entry's id. Sends no model signals.

    One statement on PostgreSQL, one transaction on other databases.
    """
    connection = connections[using]
    has_id = entry.pk is not None
    fields = entry._meta.concrete_fields[0 if has_id else 1 :]
    values = [field.get_db_prep_save(getattr(entry, field.attname), connection) for field in fields]
    insert, insert_both = _insert_sql(type(entry), leaf_table, has_id)
    if connection.vendor == "postgresql":
        entry.pk = fetch_rows(insert_both, [*values, leaf_hash, key_id], using=using)[0][0]
    else:
        with transaction.atomic(using, savepoint=False), connection.cursor() as cursor:
            cursor.execute(insert, values)
            entry.pk = entry.pk if has_id else cursor.lastrowid
            cursor.execute(
                f'INSERT INTO "{leaf_table}" (entry_id, hash, key_id) VALUES (%s, %s, %s)',
                [entry.pk, leaf_hash, key_id],
            )
    entry._state.adding = False
    entry._state.db = using


@lru_cache(maxsize=4)
def _insert_sql(model: type[Model], leaf_table: str, has_id: bool) -> tuple[str, str]:
    """Return the statement that inserts an entry, and the one that also inserts its leaf."""
    fields = model._meta.concrete_fields[0 if has_id else 1 :]
    columns = ", ".join(f'"{field.column}"' for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    insert = f'INSERT INTO "{model._meta.db_table}" ({columns}) VALUES ({marks})'
    insert_both = (
        f'WITH entry AS ({insert} RETURNING "id") INSERT INTO "{leaf_table}" '
        "(entry_id, hash, key_id) SELECT id, %s, %s FROM entry RETURNING entry_id"
    )
    return insert, insert_both
