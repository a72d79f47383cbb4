"""Celery beat's scheduler: the schedule is code, and nothing is stored.

Celery's default scheduler stores the last runs in a file, which two beats corrupt. The only entry
here sends the tasks of due jobs every few seconds. Two beats send each task twice at most; a job is
claimed by one of the workers.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from celery.beat import Scheduler

TOLERANCE = timedelta(seconds=1)
HEARTBEAT = Path(tempfile.gettempdir()) / "beat-heartbeat"
"""Touched several times a minute while beat can send tasks, for its container's health check."""


class StatelessScheduler(Scheduler):
    """The scheduler of ``celery beat``."""

    can_send = True
    """Whether the last task could be sent."""

    def tick(self, *arguments: Any, **options: Any) -> float:
        """Send what is due; return the seconds until the next call.

        A last run in the future means that the clock was moved back: it counts as now, otherwise
        the task would wait until the clock has caught up.
        """
        moved = [entry for entry in self.schedule.values() if _is_in_the_future(entry)]
        for entry in moved:
            entry.last_run_at = entry.default_now()
        if moved:
            self.populate_heap()
        delay = super().tick(*arguments, **options)
        if self.can_send:
            with suppress(OSError):
                HEARTBEAT.touch()
        return delay

    def apply_async(self, *arguments: Any, **options: Any) -> Any:
        """Send a task; ``tick`` only logs an error."""
        self.can_send = False
        result = super().apply_async(*arguments, **options)
        self.can_send = True
        return result


def _is_in_the_future(entry: Any) -> bool:
    return bool(entry.last_run_at > entry.default_now() + TOLERANCE)
