"""Writers at a steady rate beside a change of the table: their longest pause, and their errors."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

WRITERS = 4
PER_SECOND = 20
"""Entries a second of each writer: they would otherwise use up the processors."""


@dataclass
class WriterLog:
    """The inserts of all writers: begin and end in seconds of the monotonic clock, and errors."""

    inserts: list[tuple[float, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def longest_pause(self, begin: float, end: float) -> float:
        """Return the seconds of the slowest insert that overlaps a span of time."""
        return max((b - a for a, b in self.inserts if b >= begin and a <= end), default=0.0)


@contextmanager
def paced_writers(writers: int = WRITERS) -> Iterator[WriterLog]:
    """Insert entries in ``writers`` processes during the block; the log is filled at its end."""
    from django.db import connections

    connections.close_all()
    stop, results, found = multiprocessing.Event(), multiprocessing.Queue(), WriterLog()
    ready = multiprocessing.Barrier(writers + 1)
    processes = [
        multiprocessing.Process(target=_write, args=(stop, ready, results)) for _ in range(writers)
    ]
    for process in processes:
        process.start()
    try:
        ready.wait(timeout=120)
        yield found
    finally:
        stop.set()
        for _ in processes:
            inserts, errors = results.get(timeout=600)
            found.inserts += inserts
            found.errors += errors
        for process in processes:
            process.join()


def _write(stop: Any, ready: Any, results: Any) -> None:
    from myometrics_audit.log import NewEntry, entry_record

    entry = NewEntry(
        actor_id=1,
        action="upload_created",
        resource_type="upload",
        resource_id="upload_001",
        client_address="10.0.0.1",
        user_agent="benchmark",
        details={"filename": "cardiac_scan.jpg", "file_size": 2048576},
    )
    inserts: list[tuple[float, float]] = []
    errors: list[str] = []
    entry_record(entry)
    ready.wait(timeout=120)
    while not stop.is_set():
        begin = time.monotonic()
        try:
            entry_record(entry)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
        inserts.append((begin, time.monotonic()))
        stop.wait(max(begin + 1 / PER_SECOND - time.monotonic(), 0))
    results.put((inserts, errors))
