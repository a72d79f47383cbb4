"""Celery's beat, which a clock that is moved back would stop for as long as it was moved."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from celery.beat import PersistentScheduler, Scheduler

TOLERATED = timedelta(seconds=1)


class ForgetsTheFuture(Scheduler):
    """Takes what was last sent later than now as sent now: it is due again after its interval."""

    def tick(self, *arguments: Any, **options: Any) -> float:
        """Send what is due; the seconds until it wants to be asked again."""
        moved = [entry for entry in self.schedule.values() if _is_of_the_future(entry)]
        for entry in moved:
            entry.last_run_at = entry.default_now()
        if moved:
            self.populate_heap()
        return super().tick(*arguments, **options)


class SteadyScheduler(ForgetsTheFuture, PersistentScheduler):
    """The scheduler of ``celery beat``."""


def _is_of_the_future(entry: Any) -> bool:
    return bool(entry.last_run_at > entry.default_now() + TOLERATED)
