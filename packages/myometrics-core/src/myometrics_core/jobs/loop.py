"""The loop that runs due jobs in a few threads of this process, until it is stopped."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue

from django.db import close_old_connections, connections

from ..db.transactions import DATABASE_FAILURES
from .running import due_kinds, ensure_recurring_jobs, run_jobs

logger = logging.getLogger("myometrics.jobs")

SECONDS_PER_RUN = 30.0


class JobLoop:
    """Looks for due jobs every ``interval`` seconds, or at once when woken.

    Jobs of one kind run one after another, those of different kinds in up to ``threads`` threads.
    """

    def __init__(self, *, threads: int, interval: float) -> None:
        self._max_threads, self._interval = threads, interval
        self._running: dict[str, threading.Thread] = {}
        # A signal handler may put into a SimpleQueue; setting an Event there can deadlock.
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._is_stopped = False

    def wake(self) -> None:
        """Look for due jobs now."""
        self._wakes.put(None)

    def stop(self) -> None:
        """Begin no further jobs; :meth:`run` returns when the running ones have ended."""
        self._is_stopped = True
        self.wake()

    def run(self) -> None:
        """Run due jobs until :meth:`stop` is called."""
        has_failed = False
        while not self._is_stopped:
            try:
                self._look()
                has_failed = False
            except Exception as error:
                if not has_failed:  # one line for an outage, not one for each look
                    is_outage = isinstance(error, DATABASE_FAILURES)
                    logger.warning(
                        "Jobs could not be read: %s", type(error).__name__, exc_info=not is_outage
                    )
                has_failed = True
            finally:
                close_old_connections()
            self._wait()
        for thread in list(self._running.values()):
            thread.join()

    def _look(self) -> None:
        ensure_recurring_jobs()
        for kind in due_kinds():
            if kind not in self._running and len(self._running) < self._max_threads:
                # A daemon: a server that stops does not wait for a job that takes minutes.
                thread = threading.Thread(target=self._run_kind, args=[kind], daemon=True)
                self._running[kind] = thread
                try:
                    thread.start()
                except RuntimeError:  # too many threads
                    del self._running[kind]
                    raise

    def _run_kind(self, kind: str) -> None:
        attempts = 0
        try:
            attempts = run_jobs(kind, seconds=SECONDS_PER_RUN, should_stop=lambda: self._is_stopped)
        except Exception:
            logger.exception("Jobs of kind %s could not be run", kind)
        finally:
            connections.close_all()
            del self._running[kind]
        if attempts:  # otherwise the next look could find the same jobs at once, again and again
            self.wake()

    def _wait(self) -> None:
        timeout = self._interval
        with suppress(Empty):
            while True:  # several wakes are one
                self._wakes.get(timeout=timeout)
                timeout = 0
