"""Short waits for the lock of a table: other queries wait behind one that waits (PostgreSQL)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from django.db import OperationalError, connections, transaction

__all__ = ["alter_with_short_locks", "is_lock_timeout"]

LOCK_NOT_AVAILABLE = "55P03"

Result = TypeVar("Result")


def alter_with_short_locks(
    alter: Callable[[], Result],
    *,
    using: str,
    timeout_ms: int,
    attempts: int,
    pause_seconds: float,
    advice: str,
) -> Result:
    """Call ``alter`` in a transaction that waits at most ``timeout_ms`` for each lock; PostgreSQL.

    If a lock is not available, everything is rolled back, the queries that wait behind it run for
    ``pause_seconds``, and ``alter`` is called again, up to ``attempts`` times. Then it raises
    ``OperationalError``, whose text ends with ``advice``.
    """
    for attempt in range(1, attempts + 1):
        try:
            with transaction.atomic(using=using):
                with connections[using].cursor() as cursor:
                    cursor.execute(f"SET LOCAL lock_timeout = {timeout_ms:d}")
                return alter()
        except OperationalError as error:
            if not is_lock_timeout(error):
                raise
            if attempt == attempts:
                raise OperationalError(
                    f"The table was in use for too long, so nothing was changed ({error}). Look "
                    f"for long transactions in pg_stat_activity, then {advice}."
                ) from error
            time.sleep(pause_seconds)
    raise ValueError("attempts must be at least 1")


def is_lock_timeout(error: OperationalError) -> bool:
    """Return whether a statement waited for a lock for longer than ``lock_timeout``."""
    cause = error.__cause__
    # `sqlstate` in psycopg, `pgcode` in psycopg2.
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return code == LOCK_NOT_AVAILABLE
