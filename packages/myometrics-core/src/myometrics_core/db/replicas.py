"""Reads from database replicas, which may lag; off unless ``READ_REPLICAS`` is set.

Only code within :func:`read_from_replica` reads from a replica: lists and statistics, never
authentication or permissions. Everything else uses the primary, and so do all reads while a
transaction is open there.
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
from typing import TYPE_CHECKING, Any, Final

from django.core.cache import cache as shared_cache
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model

from ..conf.core_settings import core_settings
from .transactions import DATABASE_FAILURES

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    User = AbstractBaseUser | AnonymousUser

logger = logging.getLogger("myometrics.core.replicas")

CHECK_SECONDS: Final = 1.0
"""Minimum interval between two measurements by a process: a query on replica and primary each."""
REST_SECONDS: Final = 10.0
"""Seconds for which a process does not retry an unreachable replica."""
WRITTEN: Final = """
SELECT position::text,
       CASE WHEN mod(position - '0/0', current_setting('wal_block_size')::numeric) = 24 THEN 24
            WHEN mod(position - '0/0', segment_size) = 40 THEN 40
            ELSE 0 END,
       pg_walfile_name(position),
       clock_timestamp()
  FROM pg_current_wal_insert_lsn() AS position,
       pg_size_bytes(current_setting('wal_segment_size')) AS segment_size
"""
"""The end of the WAL, including commits that are visible before they are written to disk.

If the last record fills its page, the position is behind the header of the next page (24 bytes, 40
at the start of a segment), while a replica reports the end of the record: the second column.
"""
REPLAYED: Final = """
SELECT pg_is_in_recovery() AND timeline_id = %s,
       %s::pg_lsn - pg_last_wal_replay_lsn() <= %s,
       pg_last_xact_replay_timestamp()
  FROM pg_control_checkpoint()
"""

_current: ContextVar[str | None] = ContextVar("myometrics_replica", default=None)


class NotAReplica(RuntimeError):
    """The server accepts writes, or its timeline differs from the primary's."""


class PrimaryUnavailable(RuntimeError):
    """The primary can't report its WAL position: it is unreachable, or no longer a primary."""


class ReplicaRouter:
    """For ``DATABASE_ROUTERS``, after the site's routers: ``"myometrics_core.db.ReplicaRouter"``.

    Instances that were read from a replica are written to, and their relations read from, the
    primary. Replicas are never migrated. All other decisions are left to the remaining routers.
    """

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        alias = _current.get()
        if alias is not None and not connections[DEFAULT_DB_ALIAS].in_atomic_block:
            return alias
        return self.db_for_write(model, **hints)

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        instance = hints.get("instance")
        is_of_replica = instance is not None and instance._state.db in core_settings.READ_REPLICAS
        return DEFAULT_DB_ALIAS if is_of_replica else None

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool | None:
        aliases = {DEFAULT_DB_ALIAS, *core_settings.READ_REPLICAS}
        return True if {one._state.db, other._state.db} <= aliases else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if db in core_settings.READ_REPLICAS else None


@contextmanager
def read_from_replica(*, user: User) -> Iterator[None]:
    """Read from a replica in this block, for display to ``user``. Must not write.

    Reads use the primary if no replica is configured, reachable and at most ``REPLICA_LAG`` seconds
    behind, while a transaction is open, and for ``REPLICA_LAG`` seconds after a write of the user:
    users always see their own writes.
    """
    alias = None
    if core_settings.READ_REPLICAS and not connections[DEFAULT_DB_ALIAS].in_atomic_block:
        aliases = [] if _has_written_lately(user) else list(core_settings.READ_REPLICAS)
        random.shuffle(aliases)
        alias = next((one for one in aliases if _replica(one).is_usable()), None)
    token = _current.set(alias)
    try:
        yield
    finally:
        _current.reset(token)


def remember_write(user: User | None) -> None:
    """Make reads of ``user`` use the primary for ``REPLICA_LAG`` seconds, in every process."""
    if not core_settings.READ_REPLICAS or user is None or getattr(user, "pk", None) is None:
        return
    try:
        # Whole seconds: some caches truncate the timeout.
        timeout = math.ceil(core_settings.REPLICA_LAG)
        shared_cache.set(_cache_key(user), True, timeout=timeout)
    except Exception as error:  # each cache has its own exceptions; the write itself succeeded
        logger.warning("The cache does not remember a write: %s", type(error).__name__)


def _has_written_lately(user: User) -> bool:
    try:
        return bool(shared_cache.get(_cache_key(user)))
    except Exception as error:  # each cache has its own exceptions; the primary is always current
        logger.warning("The cache can't be read for recent writes: %s", type(error).__name__)
        return True


def _cache_key(user: User) -> str:
    return f"myometrics_core:wrote:{user.pk}"


def replica_lags() -> dict[str, float]:
    """Return the maximum lag of each replica in seconds; infinite if it is unusable."""
    return {alias: _replica(alias).lag() for alias in core_settings.READ_REPLICAS}


def replicas_left_out() -> dict[str, float]:
    """Return 1 for each replica that is left out (lagging or unreachable), 0 for the others."""
    return {alias: float(lag > core_settings.REPLICA_LAG) for alias, lag in replica_lags().items()}


def measure_lag(alias: str) -> float:
    """Return the maximum lag of a replica in seconds, by a query on the primary and on the replica.

    0 if it has replayed the primary's WAL up to the position at the time of the query, even if its
    connection to the primary is lost. Otherwise the age of the last replayed transaction by the
    primary's clock, which is too high if the primary has not committed for a while, and infinite if
    the replica has replayed nothing since its start. For databases other than PostgreSQL the lag is
    unknown; they return 0 if they are reachable.

    Raises :class:`NotAReplica`, :class:`PrimaryUnavailable`, or the error of an unreachable
    replica.
    """
    if connections[alias].vendor != "postgresql":
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
        return 0.0
    try:
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(WRITTEN)
            position, header, file_name, now = cursor.fetchone()
    except DATABASE_FAILURES as error:
        raise PrimaryUnavailable(type(error).__name__) from error
    timeline = int(file_name[:8], 16)
    with connections[alias].cursor() as cursor:
        cursor.execute(REPLAYED, [timeline, position, header])
        is_replica, has_all, replayed_at = cursor.fetchone()
    if not is_replica:
        raise NotAReplica(alias)
    if has_all:
        return 0.0
    return math.inf if replayed_at is None else max(0.0, (now - replayed_at).total_seconds())


class _Replica:
    """The state of one replica in this process. Threads share it; only one measures at a time."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._measuring = threading.Lock()
        self._due_at = self._complete_at = -math.inf

    def is_usable(self) -> bool:
        """Return whether the lag is acceptable and this thread has a connection to the replica."""
        if self.lag() > core_settings.REPLICA_LAG:
            return False
        connection = connections[self._alias]
        try:
            connection.close_if_health_check_failed()
            connection.ensure_connection()
        except DATABASE_FAILURES as error:
            self._leave_out(error)
            return False
        return True

    def lag(self) -> float:
        """Return the seconds since the replica was last known to be up to date."""
        # Non-blocking: a thread that waits for a hanging replica must not block others.
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
            # The replica's state is unknown; its lag grows until the primary is reachable again.
            self._due_at = asked_at + CHECK_SECONDS
            return
        except (*DATABASE_FAILURES, NotAReplica) as error:
            self._leave_out(error)
            return
        self._complete_at = max(self._complete_at, complete_at)
        self._due_at = asked_at + min(CHECK_SECONDS, core_settings.REPLICA_LAG / 2)

    def _leave_out(self, error: Exception) -> None:
        logger.warning("Replica %r can't be used (%s)", self._alias, type(error).__name__)
        self._complete_at, self._due_at = -math.inf, time.monotonic() + REST_SECONDS


@cache
def _replica(alias: str) -> _Replica:
    return _Replica(alias)
