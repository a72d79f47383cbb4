"""The one door to background work.

Celery carries only what is already a row: a task that can't be handed over now is logged and
left to its sweep, and the request goes on.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from celery import current_app
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

    Nothing is handed over when the transaction rolls back. Never raises.
    """
    transaction.on_commit(partial(_send, task_name, args, countdown))


def _send(task_name: str, args: tuple[Any, ...], countdown: float | None) -> None:
    try:
        current_app.send_task(
            task_name, args=list(args), countdown=countdown, retry_policy=PUBLISH_RETRY
        )
    except Exception as error:
        logger.warning(
            "Could not hand over task %s (%s); its sweep will find what is owed",
            task_name,
            type(error).__name__,
        )
