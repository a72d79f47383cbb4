"""Write accesses from a bounded in-memory queue to the database, in batches, in a thread."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from django.db import connections, router

from ..accesses import AccessObserver
from ..settings import core_settings
from .models import Access
from .services import accesses_insert

__all__ = ["AccessWriter", "access_writer"]

logger = logging.getLogger("myometrics.core.access_table")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Backoff in seconds while the database can't be written; doubles with each failure."""
SAY_EVERY = 60.0
"""Minimum interval in seconds between two log lines about the same failure."""
PATIENCE = 5.0
"""Seconds that the exit of a process waits for the last accesses to be written."""


class AccessWriter(AccessObserver):
    """Queues accesses without blocking requests, and writes them in batches.

    Holds at most ``ACCESS_TABLE_QUEUE`` accesses and one batch in memory. Further accesses are
    dropped and counted in ``dropped``. Each process starts its own thread with its first access. A
    forked process starts with an empty queue, because the parent writes its own.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Reset to an empty queue without a thread."""
        self.dropped = 0
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._batch: list[Mapping[str, Any]] = []
        self._thread: threading.Thread | None = None
        self._state = threading.Lock()
        self._writing = threading.Lock()
        self._arrived, self._due = threading.Event(), threading.Event()
        self._closing = threading.Event()
        self._said: dict[str, float] = {}

    def observe(self, access: Mapping[str, Any]) -> None:
        """Queue ``access``, or drop it if the queue is full."""
        mode = core_settings.ACCESS_TABLE_WRITES
        if mode == "off":
            return
        if len(self._waiting) >= core_settings.ACCESS_TABLE_QUEUE:
            self._drop()
        else:
            self._waiting.append(access)
        if mode == "background":
            self._wake()

    def flush(self, timeout: float = PATIENCE) -> None:
        """Write all queued accesses on this thread's connection.

        Raises ``DatabaseError`` if the write fails (unwritten accesses stay queued), and
        ``TimeoutError`` if another thread holds the write lock for longer than ``timeout`` seconds.
        """
        if not self._writing.acquire(timeout=timeout):
            raise TimeoutError("Accesses are being written by another thread")
        try:
            while self._fill_batch():
                accesses_insert(accesses=self._batch)
                self._batch = []
        finally:
            self._writing.release()

    def close(self) -> None:
        """Write the queue and stop the thread, within at most ``PATIENCE`` seconds."""
        thread = self._thread
        if thread is None or not thread.is_alive():
            return
        for event in (self._closing, self._arrived, self._due):
            event.set()
        thread.join(PATIENCE)
        if left := len(self._waiting) + len(self._batch):
            logger.warning("%s accesses could not be written before the process ended", left)

    def _wake(self) -> None:
        if not self._arrived.is_set():
            self._arrived.set()
        if len(self._waiting) >= core_settings.ACCESS_TABLE_BATCH:
            self._due.set()
        if self._thread is None or not self._thread.is_alive():
            self._start()

    def _start(self) -> None:
        with self._state:
            if self._closing.is_set() or (self._thread and self._thread.is_alive()):
                return
            self._thread = threading.Thread(
                target=self._work, name="myometrics-accesses", daemon=True
            )
            self._thread.start()

    def _work(self) -> None:
        pause = FIRST_PAUSE
        while not self._closing.is_set():
            self._arrived.wait()
            self._due.wait(core_settings.ACCESS_TABLE_SECONDS)
            self._arrived.clear()
            self._due.clear()
            if self._written():
                pause = FIRST_PAUSE
            else:
                self._arrived.set()
                self._closing.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        self._written()

    def _written(self) -> bool:
        """Write the queue on this thread's connection; return whether that succeeded."""
        connection = connections[router.db_for_write(Access)]
        try:
            self.flush()
        except Exception as error:
            self._say("failed", "Accesses can't be written (%s), they wait", type(error).__name__)
            connection.close()
            return False
        connection.close_if_unusable_or_obsolete()
        return True

    def _fill_batch(self) -> bool:
        size = core_settings.ACCESS_TABLE_BATCH
        while self._waiting and len(self._batch) < size:
            self._batch.append(self._waiting.popleft())
        return bool(self._batch)

    def _drop(self) -> None:
        with self._state:
            self.dropped += 1
        self._say("full", "The queue of accesses is full: %s were dropped up to now", self.dropped)

    def _say(self, trouble: str, message: str, *values: Any) -> None:
        now = time.monotonic()
        if now - self._said.get(trouble, -SAY_EVERY) >= SAY_EVERY:
            self._said[trouble] = now
            logger.warning(message, *values)


access_writer = AccessWriter()
atexit.register(access_writer.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=access_writer.forget)
