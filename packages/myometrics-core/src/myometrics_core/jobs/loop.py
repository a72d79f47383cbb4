"""The loop that runs due jobs in a few threads of this process, until it is stopped."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from django.db import close_old_connections, connections

from ..db.transactions import DATABASE_FAILURES
from .running import due_kinds, ensure_recurring_jobs, run_jobs

__all__ = ["JobLoop"]

logger = logging.getLogger("myometrics.jobs")

SECONDS_PER_RUN = 30.0


class JobLoop:
    """Looks for due jobs every ``interval`` seconds, or at once when woken.

    Jobs of one kind run one after another, those of different kinds in up to ``threads`` threads.
    """

    def __init__(self, *, threads: int, interval: float) -> None:
        self._interval = interval
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="myometrics-jobs")
        self._running: dict[str, Future[int]] = {}
        self._woken = threading.Event()
        self._stopped = threading.Event()

    def wake(self) -> None:
        """Look for due jobs now."""
        self._woken.set()

    def stop(self) -> None:
        """Begin no further jobs; :meth:`run` returns when the running ones have ended."""
        self._stopped.set()
        self._woken.set()

    def run(self) -> None:
        """Run due jobs until :meth:`stop` is called."""
        while not self._stopped.is_set():
            try:
                self._look()
            except DATABASE_FAILURES as error:
                logger.warning("Jobs could not be read: %s", type(error).__name__)
            finally:
                close_old_connections()
            self._woken.wait(self._interval)
            self._woken.clear()
        self._pool.shutdown(wait=True)

    def _look(self) -> None:
        ensure_recurring_jobs()
        for kind in due_kinds():
            running = self._running.get(kind)
            if running is None or running.done():
                self._running[kind] = self._pool.submit(self._run_kind, kind)

    def _run_kind(self, kind: str) -> int:
        try:
            return run_jobs(kind, seconds=SECONDS_PER_RUN, should_stop=self._stopped.is_set)
        except Exception:
            logger.exception("Jobs of kind %s could not be run", kind)
            return 0
        finally:
            connections.close_all()
