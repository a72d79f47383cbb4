"""Reads that may lag behind, from replicas of the database; off until a host names replicas.

Only code within :func:`replica_reads` reads from a replica: lists and numbers, never who is signed
in and what they may do. Everything else stays on the primary database, and so does everything
while a transaction is open there.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from django.core.cache import cache
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model

from .settings import core_settings
from .transactions import DATABASE_FAILURES

__all__ = ["ReplicaRouter", "replica_reads", "write_remember"]

logger = logging.getLogger("myometrics.core.replicas")

REST_SECONDS: Final = 10.0
"""For so long a replica that could not be reached is left alone by a process."""

_current: ContextVar[str | None] = ContextVar("myometrics_replica", default=None)
_resting_until: dict[str, float] = {}


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

    From the primary where no replica is named or answers, while a transaction is open, and for
    ``REPLICA_LAG`` seconds after ``person`` has written something.
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
        cache.set(_cache_key(person), True, timeout=core_settings.REPLICA_LAG)
    except Exception as error:  # each cache has errors of its own; what was written stands
        logger.warning("The cache does not remember a write: %s", type(error).__name__)


def _replica_for(person: Any) -> str | None:
    if not core_settings.READ_REPLICAS or connections[DEFAULT_DB_ALIAS].in_atomic_block:
        return None
    if _has_written_lately(person):
        return None
    aliases = list(core_settings.READ_REPLICAS)
    random.shuffle(aliases)
    return next(filter(_answers, aliases), None)


def _has_written_lately(person: Any) -> bool:
    try:
        return bool(cache.get(_cache_key(person)))
    except Exception as error:  # each cache has errors of its own; the primary is always right
        logger.warning("The cache can't say who has written: %s", type(error).__name__)
        return True


def _cache_key(person: Any) -> str:
    return f"myometrics_core:wrote:{person.pk}"


def _answers(alias: str) -> bool:
    """Whether there is a connection; one that can't be made is not tried again for a while."""
    if _resting_until.get(alias, 0.0) > time.monotonic():
        return False
    connection = connections[alias]
    try:
        connection.close_if_health_check_failed()
        connection.ensure_connection()
    except DATABASE_FAILURES as error:
        logger.warning("Replica %r can't be reached (%s)", alias, type(error).__name__)
        _resting_until[alias] = time.monotonic() + REST_SECONDS
        return False
    return True
