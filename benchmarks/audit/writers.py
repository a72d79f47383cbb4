"""Entries per second of concurrent writers: the plain insert against entry + leaf + publish.

    DATABASE_URL=… python -m benchmarks.audit.writers [--writers 16] [--seconds 5] [--rounds 5]

Each writer is a process with its own connection. The two ways alternate; medians over the rounds.
Use a database with fsync (``benchmarks.audit.server``), which dominates the time of a write.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.audit.site.settings")

import django

DETAILS = {"filename": "cardiac_scan.jpg", "file_size": 2048576, "diagnosis": "Normal"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    django.setup()
    rates: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(options.rounds):
        for way, measured in rates.items():
            measured.append(rate(way, options.writers, options.seconds))
    plain, ours = (statistics.median(rates[way]) for way in ("plain", "ours"))
    print(
        f"{options.writers} writers: plain {plain:,.0f}/s, ours {ours:,.0f}/s = {ours / plain:.0%}"
    )


def rate(way: str, writers: int, seconds: float) -> float:
    """Return the entries per second of all writers together."""
    barrier = multiprocessing.Barrier(writers)
    counts = multiprocessing.Queue()
    work = [
        multiprocessing.Process(target=write, args=(way, seconds, barrier, counts))
        for _ in range(writers)
    ]
    for process in work:
        process.start()
    total = sum(counts.get(timeout=seconds + 120) for _ in work)
    for process in work:
        process.join()
    return total / seconds


def write(way: str, seconds: float, barrier: Any, counts: Any) -> None:
    """Run one writer."""
    one = {"plain": plain_writer, "ours": our_writer}[way]()
    one()
    barrier.wait(timeout=120)
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        one()
        count += 1
    counts.put(count)


def plain_writer() -> Callable[[], object]:
    from benchmarks.audit.site.models import PlainLog

    return lambda: PlainLog.objects.create(
        user_id=1,
        action="upload_created",
        resource_type="upload",
        resource_id="upload_001",
        ip_address="10.0.0.1",
        user_agent="benchmark",
        details=DETAILS,
    )


def our_writer() -> Callable[[], object]:
    from myometrics_audit.log import NewEntry, entry_record

    entry = NewEntry(
        actor_id=1,
        action="upload_created",
        resource_type="upload",
        resource_id="upload_001",
        client_address="10.0.0.1",
        user_agent="benchmark",
        details=DETAILS,
    )
    return lambda: entry_record(entry)


if __name__ == "__main__":
    main()
