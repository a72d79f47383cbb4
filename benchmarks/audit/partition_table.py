"""Partition a log while processes write to it: their longest pause, and whether a write is lost.

    DATABASE_URL=… python -m benchmarks.audit.partition_table [--rows 10000000] [--writers 8]

Needs a server with fsync (``benchmarks.audit.server``). Everything in that database is deleted.
Half of the rows have an activity id, so that copying them is part of the time. Each writer records
one entry after the other with an activity id of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.audit.site.settings")

import django

from .data import entries_table, make

WARM_UP_SECONDS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--writers", type=int, default=8)
    options = parser.parse_args()
    django.setup()
    make(options.rows, sealed=True)
    add_activities()
    processes = multiprocessing.get_context("spawn")
    done, results = processes.Event(), processes.Queue()
    started = processes.Barrier(options.writers + 1)
    writers = [
        processes.Process(target=write, args=(name, started, done, results))
        for name in range(options.writers)
    ]
    for writer in writers:
        writer.start()
    started.wait()
    time.sleep(WARM_UP_SECONDS)
    begun = time.monotonic()
    convert()
    ended = time.monotonic()
    time.sleep(WARM_UP_SECONDS)
    done.set()
    found = [results.get() for _ in writers]
    for writer in writers:
        writer.join()
    report(options.rows, begun, ended, found)


def add_activities() -> None:
    """Give half of the rows an activity id; the log can't be verified after that."""
    from django.db import connection

    from myometrics_audit.log.guards import install_guards, remove_guards

    remove_guards("default")
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {entries_table()} SET activity_id = 'upload:' || id WHERE id %% 2 = 0", []
        )
        cursor.execute("VACUUM ANALYZE")
    install_guards("default")


def convert() -> None:
    from myometrics_audit.partitions.conversion import convert as partition

    partition("default", size=10_000_000, ahead=3)


def write(name: int, started: Any, done: Any, results: Any) -> None:
    """Record entries until ``done``; put their number, the errors, and the slowest writes."""
    django.setup()
    from django.db import connection

    from myometrics_audit.log import NewEntry, entry_record

    connection.ensure_connection()
    started.wait()
    written, errors, slowest = 0, [], (0.0, 0.0)
    while not done.is_set():
        begun = time.monotonic()
        try:
            entry_record(
                NewEntry(
                    actor_id=1 + name,
                    action="uploaded",
                    resource_type="upload",
                    resource_id=str(written),
                    activity_id=f"writer-{name}:{written}",
                )
            )
        except Exception as error:
            errors.append(repr(error))
        written += 1
        slowest = max(slowest, (time.monotonic() - begun, begun))
    results.put((written, errors, slowest))


def report(rows: int, begun: float, ended: float, found: list[Any]) -> None:
    from myometrics_audit.models import AuditLog, Leaf
    from myometrics_audit.partitions.models import RecordedActivity

    written = sum(number for number, _, _ in found)
    errors = [error for _, errors, _ in found for error in errors]
    pause, moment = max(slowest for *_, slowest in found)
    entries, recorded = AuditLog.objects.count(), RecordedActivity.objects.count()
    print(f"converted {rows:,} rows in {ended - begun:.1f} s beside {len(found)} writers")
    print(f"longest write: {pause * 1000:.0f} ms, {moment - begun:.1f} s after the start")
    print(f"written during the conversion: {written:,}; errors: {len(errors)} {errors[:1]}")
    print(
        f"entries: {entries:,}, leaves: {Leaf.objects.count():,}, expected: {rows + written:,}; "
        f"activities: {recorded:,}, expected: {rows // 2 + written:,}"
    )


if __name__ == "__main__":
    main()
