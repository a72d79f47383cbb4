"""Reads that may lag behind, from replicas of the database; off until a host names replicas.

Only code within :func:`replica_reads` reads from a replica: lists and numbers, never who is signed
in and what they may do. Everything else stays on the primary database, and so does everything
while a transaction is open there.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Final

from django.core.cache import cache as shared_cache
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model

from .settings import core_settings
from .transactions import DATABASE_FAILURES

__all__ = ["ReplicaRouter", "replica_reads", "write_remember"]

logger = logging.getLogger("myometrics.core.replicas")

CHECK_SECONDS: Final = 1.0
"""A process measures each replica at most once in this time, with one query there and one on the
primary."""
REST_SECONDS: Final = 10.0
"""A process does not try a replica again for so long after it could not be reached."""
WRITTEN: Final = """
SELECT pg_current_wal_lsn()::text, pg_walfile_name(pg_current_wal_lsn()), clock_timestamp()
"""
REPLAYED: Final = """
SELECT pg_is_in_recovery() AND timeline_id = %s,
       pg_last_wal_replay_lsn() >= %s::pg_lsn,
       pg_last_xact_replay_timestamp()
  FROM pg_control_checkpoint()
"""

_current: ContextVar[str | None] = ContextVar("myometrics_replica", default=None)


class NotAReplica(RuntimeError):
    """The server accepts writes, or follows another history than the primary's."""


class PrimaryUnavailable(RuntimeError):
    """The primary can't say what it has written: it is gone, or not a primary any more."""


class ReplicaRouter:
    """For ``DATABASE_ROUTERS``, after the host's own: ``"myometrics_core.replicas.ReplicaRouter"``.

    What was read from a replica is written to, and its relations are read from, the primary.
    Replicas are never migrated. All else is left to the routers after it.
    """

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """The replica of the surrounding :func:`replica_reads`, if any."""
        alias = _current.get()
        if alias is not None and not connections[DEFAULT_DB_ALIAS].in_atomic_block:
            return alias
        return self.db_for_write(model, **hints)

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        """The primary, for what came from a replica."""
        instance = hints.get("instance")
        is_of_replica = instance is not None and instance._state.db in core_settings.READ_REPLICAS
        return DEFAULT_DB_ALIAS if is_of_replica else None

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool | None:
        """Rows of primary and replicas are rows of one database."""
        ours = {DEFAULT_DB_ALIAS, *core_settings.READ_REPLICAS}
        return True if {one._state.db, other._state.db} <= ours else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Not on a replica: it gets its tables from the primary."""
        return False if db in core_settings.READ_REPLICAS else None


@contextmanager
def replica_reads(*, person: Any) -> Iterator[None]:
    """Read from a replica in this block, in which nothing is written, for ``person`` to see.

    From the primary where no replica is named, answers and is at most ``REPLICA_LAG`` seconds
    behind, while a transaction is open, and for ``REPLICA_LAG`` seconds after ``person`` has
    written something: users always see their own writes.
    """
    token = _current.set(_replica_for(person))
    try:
        yield
    finally:
        _current.reset(token)


def write_remember(person: Any) -> None:
    """Let ``person`` read from the primary for ``REPLICA_LAG`` seconds, in every process."""
    if not core_settings.READ_REPLICAS or getattr(person, "pk", None) is None:
        return
    try:
        # Whole seconds: some caches cut the rest off.
        timeout = math.ceil(core_settings.REPLICA_LAG)
        shared_cache.set(_cache_key(person), True, timeout=timeout)
    except Exception as error:  # each cache has errors of its own; what was written stands
        logger.warning("The cache does not remember a write: %s", type(error).__name__)


def _replica_for(person: Any) -> str | None:
    if not core_settings.READ_REPLICAS or connections[DEFAULT_DB_ALIAS].in_atomic_block:
        return None
    if _has_written_lately(person):
        return None
    aliases = list(core_settings.READ_REPLICAS)
    random.shuffle(aliases)
    return next((alias for alias in aliases if _replica(alias).is_usable()), None)


def _has_written_lately(person: Any) -> bool:
    try:
        return bool(shared_cache.get(_cache_key(person)))
    except Exception as error:  # each cache has errors of its own; the primary is always right
        logger.warning("The cache can't say who has written: %s", type(error).__name__)
        return True


def _cache_key(person: Any) -> str:
    return f"myometrics_core:wrote:{person.pk}"


def replica_lags() -> dict[str, float]:
    """Seconds that each replica is behind at most; infinite for one that can't be used."""
    return {alias: _replica(alias).lag() for alias in core_settings.READ_REPLICAS}


def replicas_left_out() -> dict[str, float]:
    """1 for each replica that is left out (lagging or unreachable), 0 for the others."""
    return {alias: float(lag > core_settings.REPLICA_LAG) for alias, lag in replica_lags().items()}


def measure_lag(alias: str) -> float:
    """Ask primary and replica how many seconds the replica is behind at most.

    0 if it has replayed all that the primary had written when it was asked, even if its
    connection to the primary is lost. Else the age of the last transaction that it has replayed,
    by the primary's clock: too much where the primary has not committed for a while, and infinite
    where nothing was replayed since the replica's start. Databases other than PostgreSQL can't
    tell; they count as 0 behind if they answer.

    Raises :class:`NotAReplica`, :class:`PrimaryUnavailable`, or the error of a replica that can't
    be reached.
    """
    if connections[alias].vendor != "postgresql":
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
        return 0.0
    try:
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(WRITTEN)
            position, file_name, now = cursor.fetchone()
    except DATABASE_FAILURES as error:
        raise PrimaryUnavailable(type(error).__name__) from error
    timeline = int(file_name[:8], 16)
    with connections[alias].cursor() as cursor:
        cursor.execute(REPLAYED, [timeline, position])
        is_replica, has_all, replayed_at = cursor.fetchone()
    if not is_replica:
        raise NotAReplica(alias)
    if has_all:
        return 0.0
    return math.inf if replayed_at is None else max(0.0, (now - replayed_at).total_seconds())


class _Replica:
    """What this process knows of one replica. Threads share it; one of them measures at a time."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._measuring = threading.Lock()
        self._due_at = self._complete_at = -math.inf

    def is_usable(self) -> bool:
        """Whether it is near enough, and this thread has a connection to it."""
        return self.lag() <= core_settings.REPLICA_LAG and self._connect()

    def lag(self) -> float:
        """Seconds since the moment for which the replica is known to have every write."""
        # A thread that waits for a hanging replica holds up no other: the lag grows meanwhile.
        if time.monotonic() >= self._due_at and self._measuring.acquire(blocking=False):
            try:
                self._measure()
            finally:
                self._measuring.release()
        return time.monotonic() - self._complete_at

    def _measure(self) -> None:
        asked_at = time.monotonic()
        try:
            complete_at = asked_at - measure_lag(self._alias)
        except PrimaryUnavailable:
            # That says nothing about the replica: its lag grows until the primary answers.
            self._due_at = asked_at + CHECK_SECONDS
            return
        except (*DATABASE_FAILURES, NotAReplica) as error:
            self._leave_out(error)
            return
        self._complete_at = max(self._complete_at, complete_at)
        self._due_at = asked_at + min(CHECK_SECONDS, core_settings.REPLICA_LAG / 2)

    def _connect(self) -> bool:
        connection = connections[self._alias]
        try:
            connection.close_if_health_check_failed()
            connection.ensure_connection()
        except DATABASE_FAILURES as error:
            self._leave_out(error)
            return False
        return True

    def _leave_out(self, error: Exception) -> None:
        logger.warning("Replica %r can't be used (%s)", self._alias, type(error).__name__)
        self._complete_at, self._due_at = -math.inf, time.monotonic() + REST_SECONDS


@cache
def _replica(alias: str) -> _Replica:
    return _Replica(alias)
