"""Comparing the rollups with the facts, and repairing differences.

Invariant for every number: facts = rollup + pending changes; facts over the daily limit are in
neither. Each comparison is one statement, and so one snapshot. While the rollups are locked,
concurrent writers don't change a difference, so it can be added to the rollup.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Count, F, Max, Min, OuterRef, Subquery
from django.db.models.functions import Coalesce

from myometrics_core.jobs import Job, JobKind, daily
from myometrics_core.times import utc_now
from myometrics_core.users import lock_users_shared_unless_busy

from ..facts.services import reports_revoke
from ..models import DailyRollup, DayRollup, PendingChange, Upload
from ..periods import as_date
from .rollup_rows import (
    DAY_COUNTS,
    add_to_daily,
    add_to_users,
    recount_days,
    rollup_lock,
    sum_days,
)
from .tables import tables

logger = logging.getLogger("myometrics.analytics.self_check")

CHUNK_DAYS: Final = 100
Progress = Callable[[float], None]

DAILY: Final = """
SELECT day, diagnosis, status, CAST(SUM(uploads) AS BIGINT), CAST(SUM(processing_us) AS BIGINT),
       CAST(SUM(processed) AS BIGINT)
FROM (
  SELECT day, diagnosis, status, COUNT(*) AS uploads,
         COALESCE(SUM(processing_us), 0) AS processing_us, COUNT(processing_us) AS processed
  FROM {counted} WHERE day BETWEEN %(first)s AND %(last)s GROUP BY day, diagnosis, status
  UNION ALL
  SELECT day, diagnosis, status, -uploads, -processing_us, -processed
  FROM {DailyRollup} WHERE day BETWEEN %(first)s AND %(last)s
  UNION ALL
  SELECT day, diagnosis, status, -uploads, -processing_us, -processed
  FROM {PendingChange} WHERE day BETWEEN %(first)s AND %(last)s
) AS difference
GROUP BY day, diagnosis, status
HAVING SUM(uploads) <> 0 OR SUM(processing_us) <> 0 OR SUM(processed) <> 0
"""

USERS: Final = """
SELECT site_user.{user_key}, CAST(SUM(uploads) AS BIGINT)
FROM (
  SELECT user_id, COUNT(*) AS uploads FROM {counted} GROUP BY user_id
  UNION ALL
  SELECT user_id, -uploads FROM {UserRollup}
  UNION ALL
  SELECT user_id, -uploads FROM {PendingChange} WHERE user_id IS NOT NULL
) AS difference JOIN {user} AS site_user ON site_user.{user_key} = difference.user_id
GROUP BY site_user.{user_key} HAVING SUM(uploads) <> 0
"""

LAST_DAYS: Final = """
SELECT rollup.user_id FROM {UserRollup} AS rollup
LEFT JOIN (SELECT user_id, MAX(day) AS last_day FROM {counted} GROUP BY user_id) AS fact
       ON fact.user_id = rollup.user_id
WHERE COALESCE(rollup.last_day, '0001-01-01') <> COALESCE(fact.last_day, '0001-01-01')
  AND rollup.user_id NOT IN (SELECT user_id FROM {PendingChange} WHERE user_id IS NOT NULL)
"""

TOTAL: Final = """
SELECT (SELECT COUNT(*) FROM {counted})
     - COALESCE((SELECT SUM(uploads) FROM {PendingChange}), 0)
     - COALESCE((SELECT SUM(uploads) FROM {RollupState}), 0)
"""


class CheckRollups(JobKind):
    """Compare the rollups with the facts, nightly."""

    name = "myometrics_analytics.check"
    schedule = daily(3, 17)
    lease = timedelta(minutes=30)

    def run(self, job: Job) -> None:
        rollups_check()


def rollups_check(*, progress: Progress | None = None) -> int:
    """Compare every rollup with the facts, repair differences; return the number of repairs.

    Before, it takes back uploads under addresses that are not the user's. Processes the days in
    chunks, one transaction each; writers of facts don't wait. ``progress`` is called with the
    completed share, from 0 to 1.
    """
    reports_revoke()
    repairs = 0
    chunks = _chunks()
    for number, chunk in enumerate(chunks, start=1):
        with rollup_lock():
            repairs += _check_daily(chunk) + _check_days(chunk)
        if progress is not None:
            progress(number / (len(chunks) + 1))
    with rollup_lock() as state:
        difference = int(_rows(TOTAL)[0][0])
        state.uploads += difference
        repairs += _check_users() + int(difference != 0)
        state.checked_at, state.repairs = utc_now(), repairs
        state.save()
    if progress is not None:
        progress(1.0)
    if repairs:
        logger.warning("Self-check repaired %d numbers that differed from the facts", repairs)
    else:
        logger.info("Self-check found every rollup equal to the facts")
    return repairs


def _chunks() -> list[tuple[date, date]]:
    """Return the first and last days of the chunks."""
    ends: list[date] = []
    for model in (Upload, DailyRollup, DayRollup, PendingChange):
        found = model._base_manager.aggregate(first=Min("day"), last=Max("day"))
        ends += [day for day in found.values() if day is not None]
    if not ends:
        return []
    first, last = min(ends), (max(ends) - min(ends)).days
    return [
        (first + timedelta(days=start), first + timedelta(days=min(start + CHUNK_DAYS - 1, last)))
        for start in range(0, last + 1, CHUNK_DAYS)
    ]


def _check_daily(chunk: tuple[date, date]) -> int:
    first, last = map(connection.ops.adapt_datefield_value, chunk)
    found = _rows(DAILY, first=first, last=last)
    add_to_daily((as_date(day), diagnosis, status, sums) for day, diagnosis, status, *sums in found)
    return len(found)


def _check_days(chunk: tuple[date, date]) -> int:
    stored = DayRollup.objects.filter(day__range=chunk)
    counts = {day: tuple(of_day) for day, *of_day in stored.values_list("day", *DAY_COUNTS)}
    expected = sum_days(DailyRollup.objects.filter(day__range=chunk))
    wrong = {day for day, _ in counts.items() ^ expected.items()}
    facts = Upload.objects.counted().filter(day=OuterRef("day")).order_by().values("day")
    uploaders = facts.annotate(found=Count("user", distinct=True)).values("found")
    # Days with pending changes are left to the next fold, which recounts them.
    idle = stored.exclude(day__in=PendingChange.objects.values("day"))
    differing = idle.annotate(found=Coalesce(Subquery(uploaders), 0)).exclude(uploaders=F("found"))
    wrong.update(differing.values_list("day", flat=True))
    recount_days(wrong)
    return len(wrong)


def _check_users() -> int:
    key = get_user_model()._meta.pk
    differences = {key.to_python(user_id): uploads for user_id, uploads in _rows(USERS)}
    # Users with pending changes are left to the next fold, which recounts them.
    wrong = differences.keys() | {key.to_python(user_id) for (user_id,) in _rows(LAST_DAYS)}
    users, _ = lock_users_shared_unless_busy(wrong)  # the next check handles the others
    return add_to_users(users, differences)


def _rows(template: str, **parameters: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(template.format(**tables()), parameters)
        return list(cursor.fetchall())
