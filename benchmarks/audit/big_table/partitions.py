"""Erasing old entries, and partitioning the log that ``big_table.seed`` made, beside writers.

    DATABASE_URL=… python -m benchmarks.audit.big_table.partitions purge
    DATABASE_URL=… python -m benchmarks.audit.big_table.partitions convert
    DATABASE_URL=… python -m benchmarks.audit.big_table.partitions drop

``purge`` erases the entries of the oldest day row by row, with ``audit_purge`` and in the plain
table by DELETE. ``convert`` runs ``audit_partition``. ``drop`` ends the first partition, which has
nearly all entries, and drops it as ``audit_purge`` does. Four writers insert 20 entries a second
each. CPU is that of PostgreSQL (with the writers' part) and of the command.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.audit.big_table.settings")

import django

from benchmarks.audit.data import DAYS, entries_table
from benchmarks.audit.processes import cpu_seconds, database_pid

from .paced_writers import paced_writers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=["purge", "convert", "drop"])
    options = parser.parse_args()
    django.setup()
    print("| step | entries | seconds | CPU, s | longest pause of a writer, s |")
    print("|---|---|---|---|---|")
    {"purge": purge, "convert": convert, "drop": drop}[options.step]()


def purge() -> None:
    """Erase the entries of the oldest day, and as many of the plain table."""
    from django.db import connection

    arguments = ["audit_purge", "--older-than", f"{DAYS - 1}d", "--execute"]
    purged = step("audit_purge, row by row", lambda: manage(*arguments))

    def delete() -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM site_plainlog WHERE id IN "
                "(SELECT id FROM site_plainlog ORDER BY id LIMIT %s)",
                [purged],
            )
            return int(cursor.rowcount)

    step("DELETE in the plain table", delete)


def convert() -> None:
    """Partition the log."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"SELECT max(id) FROM {entries_table()}")
        rows = cursor.fetchone()[0]
    step("audit_partition", lambda: (manage("audit_partition"), rows)[1])


def drop() -> None:
    """End the first partition, and drop it."""
    from datetime import timedelta

    from django.core.management import call_command
    from django.db import DEFAULT_DB_ALIAS, connection

    from myometrics_audit.partitions.dropping import PartitionDrop
    from myometrics_audit.partitions.models import Partition
    from myometrics_audit.sealing import seal_pending
    from myometrics_core.times import utc_now

    first = Partition.objects.order_by("first_id").first()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", [entries_table(), first.end_id]
        )
    for _ in seal_pending():
        pass

    def close() -> int:
        call_command("audit_partition", stdout=StringIO())
        first.refresh_from_db()
        if first.closed_at is None:
            raise RuntimeError("The partition was not closed.")
        return 0

    def run() -> int:
        # The newest entries are of today, so the command would keep the partition.
        tomorrow = utc_now() + timedelta(days=1)
        dropped = PartitionDrop(first, before=tomorrow, using=DEFAULT_DB_ALIAS).run()
        return dropped.entries if dropped else 0

    step("close the first partition", close)
    step("drop the first partition", run)


def step(name: str, run: Callable[[], int]) -> int:
    """Run one step beside writers, print its row of the table, and return its entries."""
    server = database_pid()
    with paced_writers() as log:
        before, begin = cpu_seconds([server]) + own_cpu_seconds(), time.monotonic()
        entries = run()
        end = time.monotonic()
        cpu = cpu_seconds([server]) + own_cpu_seconds() - before
        time.sleep(1)
    pause = log.longest_pause(begin, end)
    errors = f"{len(log.errors)} errors {log.errors[:1]}" if log.errors else "no errors"
    print(
        f"| {name} | {entries:,} | {end - begin:.1f} | {cpu:.1f} | {pause:.2f} "
        f"({len(log.inserts):,} inserts, {errors}) |",
        flush=True,
    )
    return entries


def own_cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those that it waited for."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def manage(*arguments: str) -> int:
    """Run a management command; return the first number that it prints."""
    command: list[Any] = [sys.executable, "-m", "django", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    words = done.stdout.replace(",", "").split()
    return next((int(word) for word in words if word.isdigit()), 0)


if __name__ == "__main__":
    main()
