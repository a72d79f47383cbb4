"""Background tasks without a broker: Celery's own worker and beat in threads of this process.

For a laptop or a single small server. Unlike ``task_always_eager`` it keeps countdowns, retries and
schedules. Tasks in memory are lost with the process; the sweeps enqueue them again, because every
job is a row.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery.beat import EmbeddedService
from django.conf import settings

from .celery import app
from .optional.beat import StatelessScheduler

logger = logging.getLogger("config.embedded_worker")

_started = threading.Lock()


def start_if_embedded() -> None:
    """Start worker and beat, once per process, if the site has no broker."""
    if settings.EMBEDDED_WORKER and _started.acquire(blocking=False):
        threading.Thread(target=_work, name="embedded-worker", daemon=True).start()
        beat: Any = EmbeddedService(app, thread=True, scheduler_cls=StatelessScheduler)
        beat.start()


def _work() -> None:
    try:
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
