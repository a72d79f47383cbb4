"""Comparing the rollups with the facts, and repairing differences.

Invariant for every number: facts = rollup + pending changes; facts over the daily limit are in
neither. Each comparison is one statement, and so one snapshot. While the rollups are locked,
concurrent writers don't change a difference, so it can be added to the rollup.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Max, Min

from myometrics_core.times import utc_now
from myometrics_core.users import lock_users_shared_unless_busy

from ..models import DailyRollup, DayRollup, PendingChange, Upload, UserRollup
from ..periods import as_date
from . import self_check_sql as sql
from .rollup_rows import (
    DAY_COUNTS,
    SUMS,
    add_counts,
    is_zero,
    last_upload_days,
    rollup_lock,
    rows_store,
    uploaders_by_day,
)

__all__ = ["rollups_check"]

logger = logging.getLogger("myometrics.analytics.self_check")

CHUNK_DAYS: Final = 100
Progress = Callable[[float], None]


def rollups_check(*, progress: Progress | None = None) -> int:
    """Compare every rollup with the facts, repair differences; return the number of repairs.

    Processes the days in chunks, one transaction each; writers of facts don't wait. ``progress``
    is called with the completed share, from 0 to 1.
    """
    repairs = 0
    chunks = list(_chunks())
    for number, (first, last) in enumerate(chunks, start=1):
        with rollup_lock():
            repairs += _check_daily(first, last) + _check_days(first, last)
        if progress is not None:
            progress(number / (len(chunks) + 1))
    with rollup_lock() as state:
        difference = int(_rows(sql.TOTAL)[0][0])
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


def _chunks() -> Iterator[tuple[date, date]]:
    ends: list[date] = []
    for model in (Upload, DailyRollup, DayRollup, PendingChange):
        found = model._base_manager.aggregate(first=Min("day"), last=Max("day"))
        ends += [day for day in found.values() if day is not None]
    if not ends:
        return
    first, last = min(ends), max(ends)
    while first <= last:
        end = min(last, first + timedelta(days=CHUNK_DAYS - 1))
        yield first, end
        first = end + timedelta(days=1)


def _check_daily(first: date, last: date) -> int:
    found = _rows(sql.DAILY, first, last)
    stored = {
        (row.day, row.diagnosis, row.status): row
        for row in DailyRollup.objects.filter(day__in={as_date(row[0]) for row in found})
    }
    repaired = []
    for day, diagnosis, status, *differences in found:
        key = as_date(day), diagnosis, status
        row = stored.get(key) or DailyRollup(day=key[0], diagnosis=diagnosis, status=status)
        repaired.append(add_counts(row, SUMS, differences))
    rows_store(repaired, SUMS, is_zero)
    return len(repaired)


def _check_days(first: date, last: date) -> int:
    found = {as_date(row[0]): row[1:] for row in _rows(sql.DAYS, first, last)}
    stored = {row.day: row for row in DayRollup.objects.filter(day__in=found)}
    repaired = [
        add_counts(stored.get(day) or DayRollup(day=day), DAY_COUNTS, (*differences, 0))
        for day, differences in found.items()
    ]
    rows_store(repaired, DAY_COUNTS, is_zero)
    wrong = {as_date(row[0]) for row in _rows(sql.UPLOADERS, first, last)}
    uploaders = uploaders_by_day(wrong)
    rows = list(DayRollup.objects.filter(day__in=wrong))
    for row in rows:
        row.uploaders = uploaders.get(row.day, 0)
    DayRollup.objects.bulk_update(rows, ["uploaders"], batch_size=500)
    return len(wrong.union(found))


def _check_users() -> int:
    key = get_user_model()._meta.pk
    differences = {key.to_python(row[0]): row[1] for row in _rows(sql.USERS)}
    wrong = differences.keys() | {key.to_python(row[0]) for row in _rows(sql.LAST_DAYS)}
    users, _ = lock_users_shared_unless_busy(wrong)  # the next check handles the others
    last_days = last_upload_days(users)
    stored = {row.user_id: row for row in UserRollup.objects.filter(user_id__in=last_days)}
    repaired = []
    for user_id, last_day in last_days.items():
        row = stored.get(user_id) or UserRollup(user_id=user_id)
        row.last_day = last_day
        repaired.append(add_counts(row, ("uploads",), (differences.get(user_id, 0),)))
    rows_store(repaired, ("uploads", "last_day"), lambda row: False)
    return len(repaired)


def _rows(template: str, first: date | None = None, last: date | None = None) -> list[Any]:
    adapt = connection.ops.adapt_datefield_value
    parameters = {"first": adapt(first), "last": adapt(last)} if first and last else {}
    with connection.cursor() as cursor:
        cursor.execute(sql.with_tables(template), parameters)
        return list(cursor.fetchall())
