"""Counting uploads in one statement, which is one snapshot on every database.

Unfiltered counts come from the rollups and the pending changes; their cost depends on the number
of days. Filtered counts come from the facts of those days; if ``COUNT_CLIENT_REPORTED`` is off,
all counts do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, NamedTuple

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
    operations = connections[using].ops
    days = ("start", "today", "previous_start", "first_of_months", "last_of_months")
    moments = {"start_moment": span.start, "end_moment": span.today + timedelta(days=1)}
    parameters |= {day: operations.adapt_datefield_value(getattr(span, day)) for day in days}
    parameters |= {
        name: operations.adapt_datetimefield_value(utc_day_start(day))
        for name, day in moments.items()
    }
    counts = Counts()
    for kind, day, diagnosis, *numbers in fetch_rows(sql, parameters, using=using):
        if kind == "day":
            counts.days[as_date(day)] = DayCounts(*numbers)
        elif kind == "diagnosis":
            counts.diagnoses.append(DiagnosisCounts(diagnosis, numbers[0], numbers[1]))
        elif kind == "active":
            counts.active_users = numbers[0]
        else:
            counts.total_uploads = numbers[0]
    return counts
