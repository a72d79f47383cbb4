"""Transactions that read before they write, safely on SQLite too; and how a database fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    IntegrityError,
    InterfaceError,
    connections,
    transaction,
)

__all__ = ["DATABASE_FAILURES", "atomic_write", "is_foreign_key_violation", "write_lock"]

DATABASE_FAILURES: Final = (DatabaseError, InterfaceError)
"""What to catch where code copes without the database.

Django's ``InterfaceError`` is no ``DatabaseError``; some drivers raise it on a dead connection.
"""


_FOREIGN_KEY_STATES: Final = ("23503", "23001")


@contextmanager
def atomic_write(using: str = DEFAULT_DB_ALIAS, *, savepoint: bool = True) -> Iterator[None]:
    """``transaction.atomic()`` that on SQLite owns the write lock from its first statement.

    SQLite refuses at once, without waiting, to turn a transaction that has read into one that
    writes when another has written meanwhile. Taking the lock first makes writers queue for the
    connection's ``timeout`` instead. Elsewhere it is plain ``atomic``: lock rows as needed.
    ``savepoint`` is ``atomic``'s.
    """
    outermost = not connections[using].in_atomic_block
    with transaction.atomic(using=using, savepoint=savepoint):
        if outermost:
            write_lock(using)
        yield


def write_lock(using: str = DEFAULT_DB_ALIAS) -> None:
    """Take SQLite's write lock for the rest of the transaction; elsewhere nothing happens.

    For code that runs in somebody else's transaction and reads before it writes.
    """
    connection = connections[using]
    if connection.vendor == "sqlite":
        # A write that needs no table: a site may have none of Django's (TEST["MIGRATE"] = False).
        # It does nothing but where the database is set to vacuum incrementally.
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA incremental_vacuum(1)")


def is_foreign_key_violation(error: IntegrityError) -> bool:
    """Whether the database refused because of a foreign key, by the driver's own words."""
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return state in _FOREIGN_KEY_STATES or "foreign key constraint" in str(error).lower()
