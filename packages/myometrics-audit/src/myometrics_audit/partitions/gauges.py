"""Metrics of partitions."""

from __future__ import annotations

import math

from django.db import router

from myometrics_core.observability import register_gauge

from ..log.models import AuditLog
from .catalog import is_partitioned, next_id
from .conversion import unfinished_conversion
from .models import Partition


def register_gauges() -> None:
    """Register the number of partitions, and how many are left for new entries."""
    register_gauge(
        "myometrics_partitions",
        "Partitions of the audit log; 0 if it is not partitioned.",
        partition_count,
    )
    register_gauge(
        "myometrics_partition_ids_ahead",
        "Ids of new audit entries that have a partition; infinite if the log is not partitioned.",
        ids_ahead,
    )
    register_gauge(
        "myometrics_partitions_ahead",
        "Empty partitions of the audit log after the current one; infinite if it is not "
        "partitioned.",
        partitions_ahead,
    )


def partition_count() -> float:
    """Return the number of partitions."""
    return float(Partition.objects.count())


def ids_ahead() -> float:
    """Return how many entries can be written until a partition is missing."""
    using = router.db_for_write(AuditLog)
    if not is_partitioned(using):
        unfinished = unfinished_conversion(using)
        return float(unfinished.end_id - next_id(using)) if unfinished else math.inf
    following = position = next_id(using)
    for first, end in _bounds(using):
        if first <= position < end:
            position = end
    return float(position - following)


def partitions_ahead() -> float:
    """Return the number of partitions whose first id is not reached yet."""
    using = router.db_for_write(AuditLog)
    if not is_partitioned(using):
        return math.inf
    following = next_id(using)
    return float(sum(first > following for first, _ in _bounds(using)))


def _bounds(using: str) -> list[tuple[int, int]]:
    objects = Partition.objects.using(using).order_by("first_id")
    return list(objects.values_list("first_id", "end_id"))
