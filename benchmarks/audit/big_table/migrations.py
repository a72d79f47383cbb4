"""Migrations of the table of entries while it is written: their duration, and the writers' pauses.

    DATABASE_URL=… python -m benchmarks.audit.big_table.migrations

Runs on the log that ``big_table.seed`` made. Each change is made by the operation for large tables
and by Django's own, with four writers at 20 entries a second each. Changes that need the table's
lock for a moment only are also made while another transaction reads the table for
``--reader`` seconds, as a report or ``pg_dump`` does. At the end the table is as before.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.audit.big_table.settings")

import django

from benchmarks.audit.data import entries_table

from .paced_writers import WriterLog, paced_writers

APP, MODEL = "myometrics_audit", "auditlog"
IDLE_SECONDS = 20.0


@dataclass
class Change:
    """One measured change: its operation, and whether a transaction reads the table during it."""

    name: str
    operation: Any
    is_read: bool = False
    begin: float = 0.0
    end: float = 0.0
    error: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reader", type=float, default=15.0, metavar="SECONDS")
    options = parser.parse_args()
    django.setup()
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {entries_table()}")
        print(f"\n{cursor.fetchone()[0]:,} entries\n", flush=True)
    made = changes()
    with paced_writers() as log:
        idle = time.monotonic()
        time.sleep(IDLE_SECONDS)
        run_all(made, options.reader)
    report(log, made, (idle, idle + IDLE_SECONDS))


def changes() -> list[Change]:
    """Return the changes in order; each pair leaves the table as it was."""
    from django.contrib.postgres.operations import AddConstraintNotValid, ValidateConstraint
    from django.db import migrations, models

    from myometrics_core.db.migration_operations import (
        AddFieldBriefly,
        AddIndexConcurrently,
        RemoveFieldBriefly,
        RemoveIndexConcurrently,
    )

    name = "benchmark_note"
    column = models.CharField(max_length=50, null=True)
    index = models.Index(fields=["ip_address"], name="benchmark_index")
    check = models.CheckConstraint(
        condition=models.Q(user_agent__isnull=False), name="benchmark_check"
    )
    add = AddFieldBriefly(MODEL, name, column)
    remove = RemoveFieldBriefly(MODEL, name)
    plain_add = migrations.AddField(MODEL, name, column)
    drop_check = migrations.RemoveConstraint(MODEL, check.name)
    return [
        Change("AddFieldBriefly", add),
        Change("RemoveFieldBriefly", remove),
        Change("AddField", plain_add),
        Change("RemoveField", migrations.RemoveField(MODEL, name)),
        Change("AddFieldBriefly", add, is_read=True),
        Change("RemoveFieldBriefly", remove),
        Change("AddField", plain_add, is_read=True),
        Change("RemoveFieldBriefly", remove),
        Change("AddIndexConcurrently", AddIndexConcurrently(MODEL, index)),
        Change("RemoveIndexConcurrently", RemoveIndexConcurrently(MODEL, index.name)),
        Change("AddIndex", migrations.AddIndex(MODEL, index)),
        Change("RemoveIndex", migrations.RemoveIndex(MODEL, index.name)),
        Change("AddConstraintNotValid", AddConstraintNotValid(MODEL, check)),
        Change("ValidateConstraint", ValidateConstraint(MODEL, check.name)),
        Change("RemoveConstraint", drop_check),
        Change("AddConstraint", migrations.AddConstraint(MODEL, check)),
        Change("RemoveConstraint", drop_check),
    ]


def run_all(made: list[Change], reader_seconds: float) -> None:
    """Make the changes one after the other, each as a migration does."""
    from django.db import Error, connection
    from django.db.migrations.loader import MigrationLoader

    state = MigrationLoader(connection).project_state()
    for change in made:
        after = state.clone()
        change.operation.state_forwards(APP, after)
        with reading(reader_seconds if change.is_read else 0):
            change.begin = time.monotonic()
            try:
                with connection.schema_editor(
                    atomic=change.operation.atomic is not False
                ) as editor:
                    change.operation.database_forwards(APP, editor, state, after)
            except Error as error:
                change.error = str(error).splitlines()[0]
            change.end = time.monotonic()
        state = after
        print(f"{change.end - change.begin:6.1f} s {change.name} {change.error}", flush=True)
        time.sleep(1)


@contextmanager
def reading(seconds: float) -> Iterator[None]:
    """Read the table in a transaction of another connection, for ``seconds`` from now."""
    is_open = threading.Event()

    def read() -> None:
        from django.db import connection, transaction

        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SELECT id FROM {entries_table()} LIMIT 1")
            is_open.set()
            time.sleep(seconds)
        connection.close()

    thread = threading.Thread(target=read)
    if seconds:
        thread.start()
        is_open.wait()
    yield
    if seconds:
        thread.join()


def report(log: WriterLog, made: list[Change], idle: tuple[float, float]) -> None:
    """Print the table of the report."""
    print("\n| change | duration, s | longest pause of a writer, s |\n|---|---|---|")
    print(f"| none ({IDLE_SECONDS:.0f} s) | | {log.longest_pause(*idle):.2f} |")
    for change in made:
        beside = ", beside a reading transaction" if change.is_read else ""
        pause = log.longest_pause(change.begin, change.end)
        failed = f" (failed: {change.error})" if change.error else ""
        duration = change.end - change.begin
        print(f"| {change.name}{beside}{failed} | {duration:.1f} | {pause:.2f} |")
    print(f"\n{len(log.inserts):,} inserts, {len(log.errors)} errors {log.errors[:3]}")


if __name__ == "__main__":
    main()
