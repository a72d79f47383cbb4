"""The closed partitions, for statements that leave them out."""

from __future__ import annotations

from django.db import connections

from myometrics_core.db import fetch_rows

from ..log.closed_ranges import ClosedRange
from .models import Partition

TIMES = ("oldest", "newest")


def closed_partitions(using: str) -> list[ClosedRange]:
    """Return the closed partitions of the log on the database ``using``."""
    if connections[using].vendor != "postgresql":
        return []
    oldest, newest = (f"(extract(epoch FROM {name}) * 1000000)::bigint" for name in TIMES)
    sql = (
        f'SELECT first_id, end_id, {oldest}, {newest} FROM "{Partition._meta.db_table}" '
        "WHERE closed_at IS NOT NULL ORDER BY first_id"
    )
    return [ClosedRange(*row) for row in fetch_rows(sql, [], using=using)]
