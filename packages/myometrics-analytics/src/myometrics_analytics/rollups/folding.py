"""Folding pending changes into the rollups: single-flight, in bounded batches.

A fold waits only for other folds. It skips changes and users that another transaction has locked
and leaves them to the next fold. The deletion of a user may therefore wait for a fold without a
deadlock.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from django.db import connection

from myometrics_core.jobs import Job, JobKind, RetryPolicy, every
from myometrics_core.times import utc_now
from myometrics_core.users import lock_users_shared_unless_busy

from ..conf import analytics_settings
from ..models import PendingChange, RollupState
from .rollup_rows import SUMS, add_to_daily, add_to_users, recount_days, rollup_lock


class FoldChanges(JobKind):
    """Fold pending changes into the rollups."""

    name = "myometrics_analytics.fold"
    schedule = every(timedelta(seconds=10))
    retry = RetryPolicy(base=timedelta(seconds=10), cap=timedelta(minutes=1))

    def run(self, job: Job) -> None:
        changes_fold()


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
    pending = PendingChange.objects.filter(pk__gt=after).order_by("pk")
    if connection.features.has_select_for_update_skip_locked:
        pending = pending.select_for_update(skip_locked=True)
    changes = list(pending[: analytics_settings.FOLD_BATCH])
    users, busy = lock_users_shared_unless_busy({change.user_id for change in changes} - {None})
    ready = [change for change in changes if change.user_id not in busy]
    uploads: Counter[Any] = Counter()
    for change in ready:
        uploads[change.user_id] += change.uploads
    if ready:
        add_to_daily(
            (change.day, change.diagnosis, change.status, [getattr(change, name) for name in SUMS])
            for change in ready
        )
        recount_days({change.day for change in ready})
        add_to_users(users, uploads)
        state.uploads += uploads.total()
        PendingChange.objects.filter(pk__in=[change.pk for change in ready]).delete()
    state.folded_at = utc_now()
    state.save(update_fields=["uploads", "folded_at"])
    is_last = len(changes) < analytics_settings.FOLD_BATCH
    return len(ready), None if is_last else changes[-1].pk
