"""The one door to background work.

Celery carries only what is already a row: a task that can't be handed over now is logged and
left to its sweep, and the request goes on.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from celery import current_app
from django.conf import settings as django_settings
from django.db import transaction

__all__ = ["enqueue"]

logger = logging.getLogger("myometrics.core.background")

PUBLISH_RETRY = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}


def enqueue(task_name: str, *args: Any, countdown: float | None = None) -> None:
    """Hand ``task_name`` with ``args`` (JSON: ids) to Celery after the transaction commits.

    Nothing is handed over when the transaction rolls back. Never raises. Where the site runs its
    tasks eagerly (``CELERY_TASK_ALWAYS_EAGER``), the task runs at once, whatever ``countdown`` is,
    and its failure is logged.
    """
    transaction.on_commit(partial(_send, task_name, args, countdown))


def _send(task_name: str, args: tuple[Any, ...], countdown: float | None) -> None:
    try:
        if _is_eager():
            _task(task_name).apply(args=args, throw=False)
            return
        current_app.send_task(
            task_name, args=list(args), countdown=countdown, retry_policy=PUBLISH_RETRY
        )
    except Exception as error:
        logger.warning(
            "Could not hand over task %s (%s); its sweep will find what is owed",
            task_name,
            type(error).__name__,
        )


def _is_eager() -> bool:
    """``send_task`` ignores the setting; Django's is read too, so that tests can override it."""
    eager = getattr(django_settings, "CELERY_TASK_ALWAYS_EAGER", False)
    return bool(eager or current_app.conf.task_always_eager)


def _task(name: str) -> Any:
    if name not in current_app.tasks:
        current_app.loader.import_default_modules()
    return current_app.tasks[name]
