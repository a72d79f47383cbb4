"""The single entry point for background tasks.

A task only carries the id of a stored job: if Celery can't accept the task, the failure is logged,
the periodic sweep picks the job up, and the request continues.
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
    """Send ``task_name`` with ``args`` (JSON-serializable ids) to Celery after the transaction
    commits.

    Nothing is sent if the transaction rolls back. Never raises. With ``CELERY_TASK_ALWAYS_EAGER``
    the task runs immediately, ``countdown`` is ignored, and a failure is logged.
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
    """Return whether tasks run eagerly.

    ``send_task`` ignores the setting. Django's setting is read too, so that tests can override it.
    """
    eager = getattr(django_settings, "CELERY_TASK_ALWAYS_EAGER", False)
    return bool(eager or current_app.conf.task_always_eager)


def _task(name: str) -> Any:
    if name not in current_app.tasks:
        current_app.loader.import_default_modules()
    return current_app.tasks[name]
