"""The loop that runs due jobs in a few threads of this process, until it is stopped."""

from __future__ import annotations

import logging
import threading

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
        self._max_threads, self._interval = threads, interval
        self._running: dict[str, threading.Thread] = {}
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
        has_failed = False
        while not self._stopped.is_set():
            try:
                self._look()
                has_failed = False
            except DATABASE_FAILURES as error:
                if not has_failed:  # one line for an outage, not one for each look
                    logger.warning("Jobs could not be read: %s", type(error).__name__)
                has_failed = True
            finally:
                close_old_connections()
            self._woken.wait(self._interval)
            self._woken.clear()
        for thread in self._running.values():
            thread.join()

    def _look(self) -> None:
        ensure_recurring_jobs()
        self._running = {kind: run for kind, run in self._running.items() if run.is_alive()}
        for kind in due_kinds():
            if kind not in self._running and len(self._running) < self._max_threads:
                # A daemon: a server that stops does not wait for a job that takes minutes.
                thread = threading.Thread(target=self._run_kind, args=[kind], daemon=True)
                self._running[kind] = thread
                thread.start()

    def _run_kind(self, kind: str) -> None:
        try:
            run_jobs(kind, seconds=SECONDS_PER_RUN, should_stop=self._stopped.is_set)
        except Exception:
            logger.exception("Jobs of kind %s could not be run", kind)
        finally:
            connections.close_all()
            self._woken.set()  # a thread is free: look for what waits
