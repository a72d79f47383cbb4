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
    OperationalError,
    connections,
    transaction,
)

__all__ = [
    "DATABASE_FAILURES",
    "SerializationFailure",
    "atomic_write",
    "is_foreign_key_violation",
    "is_serialization_failure",
    "is_unique_violation",
    "read_committed",
    "write_lock",
]

DATABASE_FAILURES: Final = (DatabaseError, InterfaceError)
"""What to catch where code copes without the database.

Django's ``InterfaceError`` is no ``DatabaseError``; some drivers raise it on a dead connection.
"""


_FOREIGN_KEY_STATES: Final = ("23503", "23001")
_UNIQUE_STATE: Final = "23505"
_SERIALIZATION_STATES: Final = ("40001", "40P01")


class SerializationFailure(OperationalError):
    """The transaction can't see what it conflicts with: run it again, from its start.

    For code that finds this out itself, where PostgreSQL raises another error.
    """


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


@contextmanager
def read_committed(using: str = DEFAULT_DB_ALIAS) -> Iterator[None]:
    """Have transactions that begin within see what was committed before each statement.

    Whatever ``default_transaction_isolation`` is: for code that waits for a lock and then reads
    what the lock's last holder wrote. A transaction that has begun keeps its level.
    """
    connection = connections[using]
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        yield
        return
    # A site on SQLite has no driver to import.
    from django.db.backends.postgresql.psycopg_any import IsolationLevel  # noqa: PLC0415

    connection.ensure_connection()
    driver = connection.connection
    level = driver.isolation_level
    driver.isolation_level = IsolationLevel.READ_COMMITTED  # goes with BEGIN
    try:
        yield
    finally:
        if not driver.closed:
            driver.isolation_level = level


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
    return _sqlstate(error) in _FOREIGN_KEY_STATES or "foreign key constraint" in str(error).lower()


def is_unique_violation(error: IntegrityError) -> bool:
    """Whether PostgreSQL refused because of a unique constraint."""
    return _sqlstate(error) == _UNIQUE_STATE


def is_serialization_failure(error: BaseException) -> bool:
    """Whether the whole transaction may succeed if it is run again.

    True for serialization failures (``repeatable read``, ``serializable``) and for deadlocks. The
    savepoint that failed is not enough: the next attempt needs a snapshot of its own. So whoever
    catches errors within a transaction raises these again.
    """
    if isinstance(error, SerializationFailure):
        return True
    return isinstance(error, DatabaseError) and _sqlstate(error) in _SERIALIZATION_STATES


def _sqlstate(error: DatabaseError) -> str | None:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
