"""Counting uploads in one statement, which is one snapshot on every database.

Unfiltered counts come from the rollups and the pending changes; their cost depends on the number
of days. Filtered counts come from the facts of those days; if ``COUNT_CLIENT_REPORTED`` is off,
all counts do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final, NamedTuple

from django.db import connections, router

from myometrics_core.db import fetch_rows
from myometrics_core.times import utc_day_start

from ..filters import Filters
from ..models import Upload
from ..periods import Span, as_date
from .counting_sql import report_sql

__all__ = ["NO_UPLOADS", "Counts", "DayCounts", "DiagnosisCounts", "counts_get"]


class DayCounts(NamedTuple):
    """Uploads of one UTC day; ``processed`` of them took ``processing_us`` in total."""

    uploads: int = 0
    completed: int = 0
    failed: int = 0
    processing_us: int = 0
    processed: int = 0


class DiagnosisCounts(NamedTuple):
    """Uploads with one diagnosis in the span and in the previous span of equal length."""

    diagnosis: str
    uploads: int
    uploads_before: int


@dataclass
class Counts:
    """All counts of a report, from one snapshot.

    ``days`` holds each day with uploads in the calendar months that overlap the span,
    ``diagnoses`` the most frequent diagnoses of the span, at most ``DIAGNOSES_SHOWN``.
    """

    days: dict[date, DayCounts] = field(default_factory=dict)
    diagnoses: list[DiagnosisCounts] = field(default_factory=list)
    active_users: int = 0
    total_uploads: int = 0


NO_UPLOADS: Final = DayCounts()


def counts_get(span: Span, filters: Filters | None = None) -> Counts:
    """Count the uploads of ``span`` and of the previous span of equal length."""
    sql, parameters = report_sql(filters or Filters())
    using = router.db_for_read(Upload)
    return _counts(fetch_rows(sql, {**_moments(span, using), **parameters}, using=using))


def _moments(span: Span, using: str) -> dict[str, Any]:
    operations = connections[using].ops
    adapt_day, adapt_moment = (
        operations.adapt_datefield_value,
        operations.adapt_datetimefield_value,
    )
    return {
        "start": adapt_day(span.start),
        "today": adapt_day(span.today),
        "previous_start": adapt_day(span.previous_start),
        "first_of_months": adapt_day(span.first_of_months),
        "last_of_months": adapt_day(span.last_of_months),
        "start_moment": adapt_moment(utc_day_start(span.start)),
        "end_moment": adapt_moment(utc_day_start(span.today + timedelta(days=1))),
    }


def _counts(rows: Sequence[Sequence[Any]]) -> Counts:
    counts = Counts()
    for kind, day, diagnosis, *numbers in rows:
        if kind == "day":
            counts.days[as_date(day)] = DayCounts(*numbers)
        elif kind == "diagnosis":
            counts.diagnoses.append(DiagnosisCounts(diagnosis, numbers[0], numbers[1]))
        elif kind == "active":
            counts.active_users = numbers[0]
        else:
            counts.total_uploads = numbers[0]
    return counts
