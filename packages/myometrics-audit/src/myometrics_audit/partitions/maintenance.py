"""Maintenance of a partitioned log: create partitions ahead, close full ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from myometrics_core.db.table_locks import alter_with_short_locks

from ..conf import audit_settings
from .ahead import create_partitions_ahead
from .closing import close_partitions, match_catalog
from .conversion import ADVICE, LOCK_TIMEOUT_MS

MAX_ATTEMPTS: Final = 10
PAUSE_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Maintained:
    """The numbers of partitions that were created and closed."""

    created: int
    closed: int


def maintain_partitions(
    using: str, *, size: int | None = None, patience: float = PATIENCE_SECONDS
) -> Maintained:
    """Create missing partitions, and close full ones. The log must be partitioned.

    ``patience`` is how many seconds closing waits for transactions that may still write.
    """
    match_catalog(using)
    created = alter_with_short_locks(
        lambda: create_partitions_ahead(
            using,
            size=size or audit_settings.PARTITION_SIZE,
            ahead=audit_settings.PARTITIONS_AHEAD,
        ),
        using=using,
        timeout_ms=LOCK_TIMEOUT_MS,
        attempts=MAX_ATTEMPTS,
        pause_seconds=PAUSE_SECONDS,
        advice=ADVICE,
    )
    closed = close_partitions(using, patience=patience, timeout_ms=LOCK_TIMEOUT_MS)
    return Maintained(created, closed)
