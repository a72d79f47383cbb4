"""The Celery runner: tasks that run jobs, and their schedule. Needs the extra ``celery``."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, Final

from celery import current_app, shared_task
from django.conf import settings as django_settings

from .kinds import job_kind
from .running import due_kinds, ensure_recurring_jobs, run_job, run_jobs

__all__ = ["celery_task"]

TICK: Final = 5.0
"""Seconds between two looks at the table."""
ONE_RETRY: Final = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}
GRACE: Final = timedelta(seconds=30)
"""Between the exception and the kill of a task that exceeds its time."""


def celery_task(kind_name: str) -> Any:
    """Return the shared task ``kind_name`` for a package's ``tasks.py``.

    ``task.delay(key)`` runs one job, ``task.delay()`` all that are due. The task is killed after
    the kind's lease.
    """
    lease = job_kind(kind_name).lease
    limit = max(lease - GRACE, lease / 2)

    @shared_task(
        name=kind_name,
        acks_late=True,
        soft_time_limit=math.ceil(limit.total_seconds()),
        time_limit=math.ceil(lease.total_seconds()),
    )
    def task(key: Any = None) -> int:
        if key is None:
            return run_jobs(kind_name, seconds=min(60.0, limit.total_seconds() / 2))
        return int(run_job(kind_name, str(key)))

    return task


def start(kind: str, key: str | None, **options: Any) -> None:
    """Send the task of ``kind``, or run it here if tasks run eagerly."""
    arguments = [] if key is None else [key]
    if _is_eager():
        _task(kind).apply(args=arguments, throw=False)
        return
    current_app.send_task(kind, args=arguments, retry_policy=ONE_RETRY, **options)


def run_due_jobs() -> list[str]:
    """Send the task of each kind with due jobs; return their names.

    Tasks that no worker has taken by the next look expire.
    """
    ensure_recurring_jobs()
    kinds = due_kinds()
    for kind in kinds:
        start(kind, None, expires=TICK)
    return kinds


def _is_eager() -> bool:
    """Return whether tasks run eagerly; ``send_task`` ignores the setting.

    Django's setting is read too, so that tests can override it.
    """
    eager = getattr(django_settings, "CELERY_TASK_ALWAYS_EAGER", False)
    return bool(eager or current_app.conf.task_always_eager)


def _task(name: str) -> Any:
    if name not in current_app.tasks:
        current_app.loader.import_default_modules()
    return current_app.tasks[name]
