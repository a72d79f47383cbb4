"""Background work without a broker: Celery's own worker and beat in threads of this process.

For a laptop or a single small server. Tasks keep their count-downs, retries and schedules, which
``task_always_eager`` would not; what is in memory when the process dies is found again by the
sweeps, because nothing is owed that isn't a row.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery.beat import EmbeddedService
from django.conf import settings

from .beat import ForgetsTheFuture
from .celery import app

logger = logging.getLogger("config.embedded_worker")

SWEEP_AT_START_SECONDS = 60
"""Periodic tasks at least this frequent run once at start: they find what was left."""

_started = threading.Lock()


def start_if_embedded() -> None:
    """Start worker and beat, once in a process, where the site has no broker."""
    if settings.EMBEDDED_WORKER and _started.acquire(blocking=False):
        threading.Thread(target=_work, name="embedded-worker", daemon=True).start()
        beat: Any = EmbeddedService(app, thread=True, scheduler_cls=ForgetsTheFuture)
        beat.start()


def _work() -> None:
    try:
        for entry in settings.CELERY_BEAT_SCHEDULE.values():
            if _seconds(entry["schedule"]) <= SWEEP_AT_START_SECONDS:
                app.send_task(entry["task"], args=entry.get("args"))
        worker = app.WorkController(
            pool="solo",
            concurrency=1,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            loglevel="WARNING",
        )
        worker.start()
    except Exception:
        logger.exception("The embedded worker has stopped: mail and roll-ups wait for a restart")


def _seconds(schedule: object) -> float:
    return float(schedule) if isinstance(schedule, (int, float)) else float("inf")
