"""Folding pending changes into the rollups: one worker at a time, a bounded batch at a time.

A fold waits for nobody but other folds. What another transaction has locked, a change or a person,
it leaves pending for the next one: whoever deletes a person may then wait for a fold, and the two
can't end up waiting for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Count, Model, OuterRef, Subquery

from myometrics_core.people import people_hold_unless_busy
from myometrics_core.times import utc_now
from myometrics_core.transactions import atomic_write

from .conf import analytics_settings
from .models import DailyRollup, DayRollup, PendingChange, RollupState, Status, Upload, UserRollup

__all__ = [
    "changes_fold",
    "counts_nothing",
    "last_upload_days",
    "rollup_lock",
    "rows_store",
    "uploaders_by_day",
]

SUMS: Final = ("uploads", "processing_us", "processed")
DAY_COUNTS: Final = (*SUMS, "completed", "failed", "uploaders")


def changes_fold() -> int:
    """Fold all pending changes into the rollups; the number of changes folded.

    Each batch is a transaction: readers see a change either pending or folded, never both.
    """
    folded = 0
    after: int | None = 0
    while after is not None:
        with rollup_lock() as state:
            count, after = _fold_batch(state, after)
        folded += count
    return folded


@contextmanager
def rollup_lock() -> Iterator[RollupState]:
    """A transaction in which nobody else writes the rollups; gives their state row."""
    RollupState.objects.get_or_create(pk=1)
    with atomic_write():
        yield RollupState.objects.select_for_update().get(pk=1)


def uploaders_by_day(days: Iterable[date]) -> dict[date, int]:
    """How many people uploaded on each of ``days``, counted from the facts."""
    uploads = Upload.objects.filter(day__in=set(days)).order_by()
    return dict(uploads.values_list("day").annotate(Count("user", distinct=True)))


def last_upload_days(user_ids: Iterable[Any]) -> dict[Any, date | None]:
    """The UTC day of the last upload of each of these people who exists, from the facts."""
    latest = Upload.objects.filter(user_id=OuterRef("pk")).order_by("-uploaded_at")
    people = get_user_model()._base_manager.filter(pk__in=set(user_ids)).order_by()
    return dict(people.annotate(_day=Subquery(latest.values("day")[:1])).values_list("pk", "_day"))


def counts_nothing(row: DailyRollup | DayRollup) -> bool:
    """Whether a rollup's row may as well not be there."""
    return not any(getattr(row, name, 0) for name in (*SUMS, "completed", "failed"))


def rows_store(rows: Iterable[Any], fields: Sequence[str], empty: Callable[[Any], bool]) -> None:
    """Insert or update ``rows`` of one model; those that are ``empty`` are left out or deleted."""
    by_model: dict[type[Model], list[Any]] = {}
    for row in rows:
        by_model.setdefault(type(row), []).append(row)
    for model, mine in by_model.items():
        stored = [row for row in mine if not row._state.adding]
        gone = [row.pk for row in stored if empty(row)]
        model._base_manager.filter(pk__in=gone).delete()
        model._base_manager.bulk_update([row for row in stored if not empty(row)], fields, 500)
        model._base_manager.bulk_create(
            [row for row in mine if row._state.adding and not empty(row)], 1000
        )


def _fold_batch(state: RollupState, after: int) -> tuple[int, int | None]:
    """Fold a batch of the changes past key ``after``; how many, and where the next one begins."""
    changes = _idle_changes(after)
    people, busy = people_hold_unless_busy({change.user_id for change in changes} - {None})
    ready = [change for change in changes if change.user_id not in busy]
    if ready:
        _fold_daily(ready)
        _fold_days(ready)
        _fold_people(ready, people)
        state.uploads += sum(change.uploads for change in ready)
        PendingChange.objects.filter(pk__in=[change.pk for change in ready]).delete()
    state.folded_at = utc_now()
    state.save(update_fields=["uploads", "folded_at"])
    is_last = len(changes) < analytics_settings.FOLD_BATCH
    return len(ready), None if is_last else changes[-1].pk


def _idle_changes(after: int) -> list[PendingChange]:
    pending = PendingChange.objects.filter(pk__gt=after).order_by("pk")
    if connection.features.has_select_for_update_skip_locked:
        pending = pending.select_for_update(skip_locked=True)
    return list(pending[: analytics_settings.FOLD_BATCH])


def _fold_daily(changes: Sequence[PendingChange]) -> None:
    rows = {
        (row.day, row.diagnosis, row.status): row
        for row in DailyRollup.objects.filter(day__in={change.day for change in changes})
    }
    touched = {}
    for change in changes:
        key = change.day, change.diagnosis, change.status
        if key not in rows:
            rows[key] = DailyRollup(day=key[0], diagnosis=key[1], status=key[2])
        touched[key] = _add(rows[key], change, SUMS)
    rows_store(touched.values(), SUMS, counts_nothing)


def _fold_days(changes: Sequence[PendingChange]) -> None:
    days = {change.day for change in changes}
    rows = {row.day: row for row in DayRollup.objects.filter(day__in=days)}
    uploaders = uploaders_by_day(days)
    for change in changes:
        row = _add(rows.setdefault(change.day, DayRollup(day=change.day)), change, SUMS)
        if change.status in (Status.COMPLETED, Status.FAILED):
            setattr(row, change.status, getattr(row, change.status) + change.uploads)
    for row in rows.values():
        row.uploaders = uploaders.get(row.day, 0)
    rows_store(rows.values(), DAY_COUNTS, counts_nothing)


def _fold_people(changes: Sequence[PendingChange], people: Iterable[Any]) -> None:
    last_days = last_upload_days(people)
    rows = {row.user_id: row for row in UserRollup.objects.filter(user_id__in=list(last_days))}
    for change in changes:
        user_id: Any = change.user_id
        if user_id in last_days:
            row = rows.setdefault(user_id, UserRollup(user_id=user_id))
            _add(row, change, ("uploads",))
            row.last_day = last_days[user_id]
    rows_store(rows.values(), ("uploads", "last_day"), _counts_nobody)


def _add(row: Any, change: PendingChange, names: Iterable[str]) -> Any:
    for name in names:
        setattr(row, name, getattr(row, name) + getattr(change, name))
    return row


def _counts_nobody(row: UserRollup) -> bool:
    return row.uploads == 0 and row.last_day is None
