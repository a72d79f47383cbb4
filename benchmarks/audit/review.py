"""Examine a log with planted incidents: found, false alarms, time and memory.

    DATABASE_URL=postgresql://… python -m benchmarks.audit.review --rows 1000000

Drops everything in the database. The entries are made by another process, so that the memory is
that of the examination. Prints one line for each rule. Exits with 1 if an incident was not found.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.audit.site.settings")

import django

USERS = 500
PER_KIND = 25
PER_SEAL = 8192
APP = "myometrics_audit.review"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=["make", "period"])
    options = parser.parse_args()
    configure()
    from myometrics_testing.review_log import ReviewLog

    users = [(number, f"user{number}@clinic.example") for number in range(1, USERS + 1)]
    log = ReviewLog(users, size=options.rows, per_kind=PER_KIND, seed=options.seed)
    if options.only == "make":
        make(log)
        return
    arguments = ["--rows", str(options.rows), "--seed", str(options.seed), "--only", "make"]
    subprocess.run([sys.executable, "-m", "benchmarks.audit.review", *arguments], check=True)
    configure_hooks(log)
    examine(log, is_period=options.only == "period")


def configure() -> None:
    from django.conf import settings

    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, APP]
    django.setup()


def configure_hooks(log: Any) -> None:
    from django.conf import settings

    settings.MYOMETRICS_AUDIT = {**getattr(settings, "MYOMETRICS_AUDIT", {}), **log.settings}


def make(log: Any) -> None:
    """Replace the database's content with users, entries, leaves and seals (without evidence)."""
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import connection

    started = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    call_command("migrate", verbosity=0)
    gone = set(log.deactivated)
    get_user_model().objects.bulk_create(
        get_user_model()(
            pk=number,
            username=f"user{number}",
            email=f"user{number}@clinic.example",
            is_active=number not in gone,
        )
        for number in range(1, USERS + 1)
    )
    write(log.entries())
    print(f"Made in {time.monotonic() - started:.0f} s", flush=True)


def write(entries: list[Any]) -> None:
    import json

    from django.db import connection, transaction

    def rows() -> Any:
        for number, entry in enumerate(entries, 1):
            yield (
                number,
                entry.user_id,
                entry.action,
                entry.resource_type,
                entry.resource_id,
                entry.timestamp,
                json.dumps(entry.details),
                entry.data_subject,
            )

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO myometrics_audit_auditlog (id, user_id, action, resource_type, "
            "resource_id, timestamp, details, data_subject, user_agent, pseudonym, nonce, origin) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, '', '', '', 'server')",
            rows(),
        )
        cursor.executemany(
            "INSERT INTO myometrics_audit_leaf (entry_id, hash, key_id, seal_number) "
            "VALUES (%s, '', 'none', %s)",
            ((number, 1 + number // PER_SEAL) for number in range(1, len(entries) + 1)),
        )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        cursor.execute(
            "SELECT setval(pg_get_serial_sequence('myometrics_audit_auditlog', 'id'), %s)",
            [len(entries)],
        )


def examine(log: Any, *, is_period: bool) -> None:
    """Examine everything, and compare the findings with what was planted."""
    from datetime import timedelta

    from myometrics_audit.review.models import Finding
    from myometrics_audit.review.scanning import ScanProgress, scan_pending, scan_period
    from myometrics_testing.review_log import START, WEEKS

    before, first = memory(), 0.0
    started, cpu = time.monotonic(), time.process_time()
    progress = ScanProgress(0, 0)
    scan = scan_period(START, START + timedelta(weeks=WEEKS)) if is_period else scan_pending()
    for progress in scan:  # noqa: B007
        first = first or memory()
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    print(
        f"Examined {progress.entries:,} in {seconds:.1f} s (Python {cpu:.1f} s of CPU); memory "
        f"{before:.0f} MiB, after the first batch {first:.0f}, at most {memory():.0f} MiB"
    )
    entries = log.entries()
    ids = {id(entry): number for number, entry in enumerate(entries, 1)}
    places = {(rule, ids[id(entry)]) for rule, entry in log.planted}
    total, false, found = Counter(), Counter(), set()
    for rule, entry_ids in Finding.objects.values_list("rule", "entries"):
        matching = {(rule, entry_id) for entry_id in entry_ids} & places
        found |= matching
        total[rule] += 1
        false[rule] += not matching
    hits = Counter(rule for rule, _ in found)
    for rule in sorted(total):
        print(f"{rule:26} found {hits[rule]} of {PER_KIND}, {false[rule]} false alarms")
    missed = len(places - found)
    print(f"{len(places)} incidents, {missed} missed, {sum(false.values())} false alarms")
    sys.exit(bool(missed))


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
