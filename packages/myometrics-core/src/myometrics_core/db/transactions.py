"""Transactions that read before they write, also on SQLite; classification of database errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    connections,
    transaction,
)

DATABASE_FAILURES: Final = (DatabaseError, InterfaceError)
"""Exceptions of an unusable database.

Django's ``InterfaceError``, which some drivers raise on a dead connection, is no ``DatabaseError``.
"""
PAUSES: Final = (0.1, 0.2, 0.4, 0.8)

Result = TypeVar("Result")


class SerializationFailure(OperationalError):
    """A conflict that the code itself detected: run the transaction again from its start."""


@contextmanager
def atomic_write(using: str = DEFAULT_DB_ALIAS, *, savepoint: bool = True) -> Iterator[None]:
    """``transaction.atomic()`` that takes SQLite's write lock at its start.

    SQLite fails immediately, without waiting, if a transaction writes after a read and another
    transaction has written since. Taking the lock first makes writers wait for up to the
    connection's ``timeout`` instead. On other databases, lock rows as needed: what is read after a
    lock is what its previous holder wrote, because the transaction is ``read committed``, unless
    its caller has begun it. ``savepoint`` is passed to ``atomic``.
    """
    outermost = not connections[using].in_atomic_block
    with read_committed(using), transaction.atomic(using=using, savepoint=savepoint):
        if outermost:
            write_lock(using)
        yield


@contextmanager
def read_committed(using: str = DEFAULT_DB_ALIAS) -> Iterator[None]:
    """Run transactions that begin within the block at the isolation level ``read committed``.

    For code that waits for a lock and then reads what the previous holder wrote, regardless of
    ``default_transaction_isolation``. A transaction that has already begun keeps its level.
    """
    connection = connections[using]
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        yield
        return
    # Imported here: a site on SQLite may have no psycopg.
    from django.db.backends.postgresql.psycopg_any import IsolationLevel  # noqa: PLC0415

    connection.ensure_connection()
    driver = connection.connection
    level = driver.isolation_level
    driver.isolation_level = IsolationLevel.READ_COMMITTED  # sent with BEGIN
    try:
        yield
    finally:
        if not driver.closed:
            driver.isolation_level = level


def write_lock(using: str = DEFAULT_DB_ALIAS) -> None:
    """Take SQLite's write lock for the rest of the transaction; no effect on other databases.

    For code that reads before it writes, inside a transaction that its caller has opened.
    """
    connection = connections[using]
    if connection.vendor == "sqlite":
        # A write that needs no table: a site may have no Django tables (TEST["MIGRATE"] = False).
        # It has an effect only if the database uses incremental vacuum.
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA incremental_vacuum(1)")


def write_despite_failures(write: Callable[[], Result], using: str = DEFAULT_DB_ALIAS) -> Result:
    """Call ``write``, again after short failures of the database; raises the last one.

    For results of what can't be repeated, such as a mail that was sent. Inside a transaction, the
    first failure is raised.
    """
    connection = connections[using]
    for pause in PAUSES:
        try:
            return write()
        except DATABASE_FAILURES:
            if connection.in_atomic_block:
                raise
            connection.close()
            time.sleep(pause)
    return write()


def is_foreign_key_violation(error: IntegrityError) -> bool:
    """Return whether the error is a foreign key violation, by SQLSTATE or driver message."""
    is_by_state = _sqlstate(error) in ("23503", "23001")
    return is_by_state or "foreign key constraint" in str(error).lower()


def is_unique_violation(error: IntegrityError) -> bool:
    """Return whether the error is a unique violation (PostgreSQL)."""
    return _sqlstate(error) == "23505"


def is_serialization_failure(error: BaseException) -> bool:
    """Return whether the whole transaction may succeed if it is run again.

    True for serialization failures (``repeatable read``, ``serializable``) and for deadlocks.
    Rolling back to a savepoint is not sufficient: the next attempt needs a new snapshot. Code that
    catches errors within a transaction must therefore re-raise these.
    """
    if isinstance(error, SerializationFailure):
        return True
    return isinstance(error, DatabaseError) and _sqlstate(error) in ("40001", "40P01")


def _sqlstate(error: DatabaseError) -> str | None:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
