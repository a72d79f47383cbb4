"""Locking, recounting and storing rollup rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Sum

from myometrics_core.db import atomic_write

from ..models import DailyRollup, DayRollup, RollupState, Status, Upload, UserRollup

SUMS: Final = ("uploads", "processing_us", "processed")
DAY_COUNTS: Final = (*SUMS, "completed", "failed")


@contextmanager
def rollup_lock() -> Iterator[RollupState]:
    """Open a transaction with exclusive write access to the rollups; yield the state row."""
    RollupState.objects.get_or_create(pk=1)
    with atomic_write():
        yield RollupState.objects.select_for_update().get(pk=1)


def add_to_daily(changes: Iterable[tuple[date, str, str, Sequence[int]]]) -> None:
    """Add changes to the daily rollups: day, diagnosis, status and the changes of ``SUMS``."""
    changes = list(changes)
    stored = DailyRollup.objects.filter(day__in={day for day, *_ in changes})
    rows = {(row.day, row.diagnosis, row.status): row for row in stored}
    changed = {}
    for day, diagnosis, status, sums in changes:
        key = day, diagnosis, status
        row = rows.setdefault(key, DailyRollup(day=day, diagnosis=diagnosis, status=status))
        for name, difference in zip(SUMS, sums, strict=True):
            setattr(row, name, getattr(row, name) + difference)
        changed[key] = row
    store_rows(DailyRollup, changed.values(), SUMS)


def sum_days(daily: QuerySet[DailyRollup]) -> dict[date, tuple[int, ...]]:
    """Return the ``DAY_COUNTS`` of each day of the daily rollups, without days of zeros."""
    sums = {f"sum_of_{name}": Sum(name) for name in SUMS}
    for status in (Status.COMPLETED, Status.FAILED):
        sums[f"sum_of_{status}"] = Sum("uploads", filter=Q(status=status), default=0)
    rows = daily.order_by().values_list("day").annotate(**sums)
    return {day: tuple(counts) for day, *counts in rows if any(counts)}


def recount_days(days: Collection[date]) -> None:
    """Store the ``DAY_COUNTS`` of ``days``, and the uploaders as counted from the facts."""
    counts = sum_days(DailyRollup.objects.filter(day__in=days))
    uploads = Upload.objects.counted().filter(day__in=days).order_by()
    uploaders = dict(uploads.values_list("day").annotate(Count("user", distinct=True)))
    DayRollup.objects.filter(day__in=set(days) - counts.keys()).delete()
    names = (*DAY_COUNTS, "uploaders")
    rows = [
        DayRollup(day=day, **dict(zip(names, (*of_day, uploaders.get(day, 0)), strict=True)))
        for day, of_day in counts.items()
    ]
    store_rows(DayRollup, rows, names)


def add_to_users(user_ids: Collection[Any], uploads: dict[Any, int]) -> int:
    """Add ``uploads`` to the rollups of existing users and recount the day of the last upload.

    Returns the number of users.
    """
    latest = Upload.objects.counted().filter(user_id=OuterRef("pk")).order_by("-uploaded_at")
    users = get_user_model()._base_manager.filter(pk__in=user_ids).order_by()
    days = users.annotate(_day=Subquery(latest.values("day")[:1])).values_list("pk", "_day")
    last_days = dict(days)
    rows = {row.user_id: row for row in UserRollup.objects.filter(user_id__in=last_days)}
    for user_id, last_day in last_days.items():
        row = rows.setdefault(user_id, UserRollup(user_id=user_id))
        row.uploads += uploads.get(user_id, 0)
        row.last_day = last_day
    store_rows(UserRollup, rows.values(), ("uploads", "last_day"))
    return len(rows)


def store_rows(
    model: type[DailyRollup] | type[DayRollup] | type[UserRollup],
    rows: Iterable[Any],
    fields: Sequence[str],
) -> None:
    """Insert or update ``fields`` of ``rows``; skip or delete rows in which all are empty."""
    filled: list[Any] = []
    emptied: list[Any] = []
    for row in rows:
        (filled if any(getattr(row, name) for name in fields) else emptied).append(row)
    model._base_manager.filter(pk__in=[row.pk for row in emptied]).delete()
    model._base_manager.bulk_create(
        filled,
        batch_size=500,
        update_conflicts=True,
        unique_fields=["pk"],
        update_fields=fields,
    )
