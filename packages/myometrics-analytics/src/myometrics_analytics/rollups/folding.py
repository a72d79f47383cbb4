"""Folding pending changes into the rollups: single-flight, in bounded batches.

A fold waits only for other folds. It skips changes and users that another transaction has locked
and leaves them to the next fold. The deletion of a user may therefore wait for a fold without a
deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection

from myometrics_core.times import utc_now
from myometrics_core.users import lock_users_shared_unless_busy

from ..conf import analytics_settings
from ..models import DailyRollup, DayRollup, PendingChange, RollupState, Status, UserRollup
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

__all__ = ["changes_fold"]


def changes_fold() -> int:
    """Fold all pending changes into the rollups; return the number of folded changes.

    Each batch is a transaction: readers see a change either pending or folded, never both.
    """
    folded = 0
    after: int | None = 0
    while after is not None:
        with rollup_lock() as state:
            count, after = _fold_batch(state, after)
        folded += count
    return folded


def _fold_batch(state: RollupState, after: int) -> tuple[int, int | None]:
    """Fold a batch after key ``after``; return the number of changes and the next ``after``."""
    changes = _idle_changes(after)
    users, busy = lock_users_shared_unless_busy({change.user_id for change in changes} - {None})
    ready = [change for change in changes if change.user_id not in busy]
    if ready:
        _fold_daily(ready)
        _fold_days(ready)
        _fold_users(ready, users)
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
        touched[key] = add_counts(rows[key], SUMS, _sums(change))
    rows_store(touched.values(), SUMS, is_zero)


def _fold_days(changes: Sequence[PendingChange]) -> None:
    days = {change.day for change in changes}
    rows = {row.day: row for row in DayRollup.objects.filter(day__in=days)}
    uploaders = uploaders_by_day(days)
    for change in changes:
        row = rows.setdefault(change.day, DayRollup(day=change.day))
        add_counts(row, SUMS, _sums(change))
        if change.status in (Status.COMPLETED, Status.FAILED):
            setattr(row, change.status, getattr(row, change.status) + change.uploads)
    for row in rows.values():
        row.uploaders = uploaders.get(row.day, 0)
    rows_store(rows.values(), DAY_COUNTS, is_zero)


def _fold_users(changes: Sequence[PendingChange], users: Iterable[Any]) -> None:
    last_days = last_upload_days(users)
    rows = {row.user_id: row for row in UserRollup.objects.filter(user_id__in=list(last_days))}
    for change in changes:
        user_id: Any = change.user_id
        if user_id in last_days:
            row = rows.setdefault(user_id, UserRollup(user_id=user_id))
            row.uploads += change.uploads
            row.last_day = last_days[user_id]
    rows_store(
        rows.values(),
        ("uploads", "last_day"),
        lambda row: row.uploads == 0 and row.last_day is None,
    )


def _sums(change: PendingChange) -> list[int]:
    return [getattr(change, name) for name in SUMS]
