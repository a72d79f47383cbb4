"""The evidence lock, held by the sealer, by erasures and by purges. Writers never take it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

from myometrics_core.db import atomic_write

LOCK_NUMBER = 0x6D796F_61756469  # "myo audi"


@contextmanager
def evidence_lock(using: str) -> Iterator[None]:
    """Open a transaction and wait for the evidence lock, which is held until the end."""
    with atomic_write(using):
        if connections[using].vendor == "postgresql":
            _execute(using, "SELECT pg_advisory_xact_lock(%s)")
        yield


@contextmanager
def try_evidence_lock(using: str) -> Iterator[bool]:
    """As :func:`evidence_lock`, without waiting: yield ``False`` if the lock is taken.

    SQLite queues all writers, so there it waits and yields ``True``.
    """
    with atomic_write(using):
        if connections[using].vendor == "postgresql":
            yield bool(_execute(using, "SELECT pg_try_advisory_xact_lock(%s)"))
        else:
            yield True


def _execute(using: str, sql: str) -> object:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, [LOCK_NUMBER])
        return cursor.fetchone()[0]
