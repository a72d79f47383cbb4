"""Locking, recounting and storing rollup rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db.models import Count, Model, OuterRef, Subquery

from myometrics_core.db import atomic_write

from ..models import DailyRollup, DayRollup, RollupState, Upload

__all__ = [
    "DAY_COUNTS",
    "SUMS",
    "add_counts",
    "is_zero",
    "last_upload_days",
    "rollup_lock",
    "rows_store",
    "uploaders_by_day",
]

SUMS: Final = ("uploads", "processing_us", "processed")
DAY_COUNTS: Final = (*SUMS, "completed", "failed", "uploaders")


@contextmanager
def rollup_lock() -> Iterator[RollupState]:
    """Open a transaction with exclusive write access to the rollups; yield the state row."""
    RollupState.objects.get_or_create(pk=1)
    with atomic_write():
        yield RollupState.objects.select_for_update().get(pk=1)


def uploaders_by_day(days: Iterable[date]) -> dict[date, int]:
    """Return the number of users who uploaded on each of ``days``, counted from the facts."""
    uploads = Upload.objects.counted().filter(day__in=set(days)).order_by()
    return dict(uploads.values_list("day").annotate(Count("user", distinct=True)))


def last_upload_days(user_ids: Iterable[Any]) -> dict[Any, date | None]:
    """Return the UTC day of the last upload of each existing user, from the facts."""
    latest = Upload.objects.counted().filter(user_id=OuterRef("pk")).order_by("-uploaded_at")
    users = get_user_model()._base_manager.filter(pk__in=set(user_ids)).order_by()
    return dict(users.annotate(_day=Subquery(latest.values("day")[:1])).values_list("pk", "_day"))


def add_counts(row: Any, names: Iterable[str], values: Iterable[int]) -> Any:
    """Add ``values`` to the attributes ``names`` of ``row``; return ``row``."""
    for name, value in zip(names, values, strict=True):
        setattr(row, name, getattr(row, name) + value)
    return row


def is_zero(row: DailyRollup | DayRollup) -> bool:
    """Return whether all counts of ``row`` are zero."""
    return not any(getattr(row, name, 0) for name in (*SUMS, "completed", "failed"))


def rows_store(rows: Iterable[Any], fields: Sequence[str], is_empty: Callable[[Any], bool]) -> None:
    """Insert or update ``fields`` of ``rows``; skip or delete empty rows."""
    by_model: dict[type[Model], list[Any]] = {}
    for row in rows:
        by_model.setdefault(type(row), []).append(row)
    for model, of_model in by_model.items():
        stored = [row for row in of_model if not row._state.adding]
        emptied = [row.pk for row in stored if is_empty(row)]
        model._base_manager.filter(pk__in=emptied).delete()
        model._base_manager.bulk_update([row for row in stored if not is_empty(row)], fields, 500)
        model._base_manager.bulk_create(
            [row for row in of_model if row._state.adding and not is_empty(row)], 1000
        )
