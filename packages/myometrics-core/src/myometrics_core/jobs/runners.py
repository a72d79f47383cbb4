"""Runners: what begins a job after the commit (``MYOMETRICS["JOB_RUNNER"]``).

They only carry a hint. A hint that is lost costs a few seconds, until the runner's next look at
the table. So after a failure no hints for the kind are given for that long: a transaction with many
jobs would wait for an unreachable broker once for each.
"""

from __future__ import annotations

import logging
import time
from importlib import import_module

from ..conf.core_settings import core_settings

logger = logging.getLogger("myometrics.jobs")

RUNNERS = {
    "thread": "myometrics_core.jobs.thread_runner",
    "celery": "myometrics_core.jobs.celery_runner",
    "tasks": "myometrics_core.jobs.tasks_runner",
}
PAUSE = 5.0

_paused_until: dict[str, float] = {}


def start_job(kind: str, key: str) -> None:
    """Ask the runner to run one job now. Never raises."""
    _start(kind, key)


def start_jobs(kind: str) -> None:
    """Ask the runner to run all due jobs of a kind now. Never raises."""
    _start(kind, None)


def _start(kind: str, key: str | None) -> None:
    if time.monotonic() < _paused_until.get(kind, 0.0):
        return
    try:
        module = RUNNERS.get(core_settings.JOB_RUNNER)
        if module:
            import_module(module).start(kind, key)
    except Exception as error:
        _paused_until[kind] = time.monotonic() + PAUSE
        logger.warning("Job %s starts later: its runner failed (%s)", kind, type(error).__name__)
