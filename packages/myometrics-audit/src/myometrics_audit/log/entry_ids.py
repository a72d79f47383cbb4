"""Prevent the reuse of entry ids after ``loaddata``: leaves of erased entries keep their ids.

``loaddata`` sets a table's sequence to the highest loaded id, which is too low if the newest
entries were erased.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import connections, transaction
from django.db.models.signals import post_save

from .models import AuditLog, Erasure, Leaf


def connect_fixtures() -> None:
    """Skip the ids of erased entries after a fixture with an erasure is loaded."""
    post_save.connect(_erasure_saved, sender=Erasure, dispatch_uid="myometrics_audit:entry_ids")


def _erasure_saved(raw: bool, using: str, **kwargs: Any) -> None:
    if raw:
        # After the commit, because loaddata resets the sequences last.
        transaction.on_commit(partial(_skip_used_ids, using), using=using)


def _skip_used_ids(using: str) -> None:
    entries, leaves = AuditLog._meta.db_table, Leaf._meta.db_table
    connection = connections[using]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT setval(pg_get_serial_sequence(%s, 'id'), used.last) FROM (SELECT GREATEST("
                f'(SELECT MAX(id) FROM "{entries}"), (SELECT MAX(entry_id) FROM "{leaves}")'
                ") AS last) used WHERE used.last > 0",
                [f'"{entries}"'],
            )
        elif connection.vendor == "sqlite":
            cursor.execute(
                "INSERT INTO sqlite_sequence (name, seq) SELECT %s, 0 "
                "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = %s)",
                [entries, entries],
            )
            cursor.execute(
                "UPDATE sqlite_sequence SET seq = "
                f'MAX(seq, (SELECT COALESCE(MAX(entry_id), 0) FROM "{leaves}")) WHERE name = %s',
                [entries],
            )
