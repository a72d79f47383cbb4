"""Sizes, sealing and verification of the log that ``big_table.seed`` made.

    DATABASE_URL=… python -m benchmarks.audit.big_table.measure

Publishes a checkpoint of the seals, seals the newest entries with the package's sealer, and runs
``audit_verify --since`` that checkpoint. The whole log is not verified: its
duration follows from the rate of sampled seals, which are spread evenly over the log.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from io import StringIO
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.audit.big_table.settings")

import django

from benchmarks.audit.data import entries_table
from benchmarks.audit.processes import cpu_seconds, database_pid

SIZES = """
SELECT name, pg_size_pretty(size), round(size / 1e6 / (%(rows)s / 1e6), 1)
FROM (SELECT c.relname AS name, CASE WHEN c.relkind = 'i' THEN pg_relation_size(c.oid)
             ELSE pg_table_size(c.oid) END AS size, t.relname AS of_table, c.relkind
      FROM pg_class t JOIN pg_class c
      ON c.oid = t.oid OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = t.oid)
      WHERE t.relname LIKE 'myometrics\\_audit%%' AND t.relkind = 'r') sizes
WHERE size > 1000000 ORDER BY of_table, relkind DESC, name
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=20, help="ranges of six seals to verify (20)")
    options = parser.parse_args()
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    rows = print_sizes()
    print("\n| step | entries | seconds | CPU, s | peak memory, MiB | entries a second |")
    print("|---|---|---|---|---|---|")
    step(f"checkpoint of {seal_count():,} seals", publish)
    since = copy_checkpoint()
    step("seal the newest entries", seal)
    step("VACUUM of the leaves", vacuum)
    step("audit_verify --since the checkpoint", lambda: verify_since(since))
    rate = step(f"verify {options.sample} samples of the log", lambda: verify(options.sample))
    print(f"\nThe whole log at that rate: {rows / rate / 60:,.0f} minutes")


def print_sizes() -> int:
    """Print the sizes of the audit tables and indexes; return the number of entries."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"SELECT max(id) FROM {entries_table()}")
        rows: int = cursor.fetchone()[0]
        cursor.execute(SIZES, {"rows": rows})
        found = cursor.fetchall()
    print(f"{rows:,} entries\n\n| table or index | size | MB a million entries |\n|---|---|---|")
    for name, size, per_million in found:
        print(f"| {name} | {size} | {per_million} |")
    print(f"| all | | {sum(per_million for *_, per_million in found):.0f} |", flush=True)
    return rows


def step(name: str, run: Callable[[], int]) -> float:
    """Run one step, print its row of the table, and return the entries a second."""
    pids = [os.getpid(), database_pid()]
    before, started = cpu_seconds(pids), time.monotonic()
    entries = run()
    seconds = time.monotonic() - started
    cpu = cpu_seconds(pids) - before
    memory = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, ended_children_memory()) / 1024
    rate = entries / seconds
    print(
        f"| {name} | {entries:,} | {seconds:.1f} | {cpu:.1f} | {memory:.0f} | {rate:,.0f} |",
        flush=True,
    )
    return rate


def ended_children_memory() -> int:
    """Return the largest memory, in KiB, of the processes that this one waited for."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def seal_count() -> int:
    from myometrics_audit.models import Seal

    return Seal.objects.count()


def publish() -> int:
    """Publish a checkpoint, with a new key if there is none."""
    from django.conf import settings
    from django.core.management import call_command

    from myometrics_audit.checkpoints.models import Checkpoint
    from myometrics_audit.checkpoints.publication import checkpoint_publish

    key = settings.CHECKPOINT_KEY_FILE
    if not Checkpoint.objects.exists():
        # Those of another log, which it would not continue.
        shutil.rmtree(settings.CHECKPOINT_FOLDER, ignore_errors=True)
    if not key.exists():
        key.parent.mkdir(parents=True, exist_ok=True)
        name = "benchmark.example/audit-log"
        call_command("audit_key", name=name, output=str(key), stdout=StringIO())
    checkpoint_publish()
    return 0


def copy_checkpoint() -> str:
    """Copy the published checkpoint, which the next one replaces; return the copy's path."""
    from django.conf import settings

    copy = settings.FOLDER / "checkpoint-before"
    copy.write_bytes((settings.CHECKPOINT_FOLDER / "checkpoint").read_bytes())
    return str(copy)


def seal() -> int:
    from myometrics_audit.sealing import seal_pending

    return last_leaves(progress.leaves for progress in seal_pending())


def vacuum() -> int:
    """Remove the dead entries of the index, which lists would read."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE, INDEX_CLEANUP on) myometrics_audit_leaf")
    return 0


def last_leaves(numbers: Iterable[int]) -> int:
    found = 0
    for number in numbers:
        found = number
    return found


def verify_since(checkpoint: str) -> int:
    """Run the command in a process of its own, for its memory; return the entries checked."""
    command: list[Any] = [sys.executable, "-m", "django", "audit_verify", "--since", checkpoint]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return int(done.stdout.split()[1].replace(",", ""))


def verify(ranges: int) -> int:
    """Verify ranges of six seals, spread evenly over the log; return the entries checked."""
    from django.db import DEFAULT_DB_ALIAS

    from myometrics_audit.sealing.verification.verifier import verify_range

    seals, entries = seal_count(), 0
    ranges = max(min(ranges, seals // 6), 1)
    for number in range(ranges):
        after = number * seals // ranges
        result = verify_range(DEFAULT_DB_ALIAS, after, min(after + 6, seals))
        if result.problems:
            raise RuntimeError(result.problems[0])
        entries += result.entries
    return entries


if __name__ == "__main__":
    main()
