"""Cost of reading and writing the same log without partitions, and with 1, 10 and 100.

    DATABASE_URL=… python -m benchmarks.audit.partitions --rows 1000000 [--keep]

First makes the data (everything in the database is deleted), and copies it into one database for
each number of partitions. All but the newest partitions are closed, and three are ahead. Each kind
of work runs on all of them in turn; its cost is the CPU time of this process and of its PostgreSQL
backend, as the median of the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.audit.site.settings")

import django

from . import data

LAYOUTS: Final = (0, 1, 10, 100)
AHEAD: Final = 3
SUBJECTS: Final = 200
NEWEST: Final = 4_000
UNSEALED: Final = 200
APPS: Final = ("myometrics_audit.review", "myometrics_audit.streams")
Way = Callable[[], Any]


class ChosenDatabase:
    """A database router: everything is read and written in the database that is measured."""

    alias = "default"

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return ChosenDatabase.alias

    db_for_write = db_for_read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--keep", action="store_true", help="use the data of the last run")
    parser.add_argument("--only", default="", help="names of the work to measure, with commas")
    options = parser.parse_args()
    configure()
    if not options.keep:
        make(options.rows)
    works = short_works(options.rows)
    print("| work | 1 partition, ms | without | 10 | 100 |\n|---|---|---|---|---|")
    for name, work in works.items():
        if not options.only or name in options.only.split(","):
            show(name, measure(work, options.rounds, options.calls))
    for name, work in long_works().items():
        if not options.only or name in options.only.split(","):
            show(name, measure(work, options.rounds, calls=1))


def configure() -> None:
    from django.conf import settings

    default = settings.DATABASES["default"]
    for number in LAYOUTS:
        settings.DATABASES[alias_of(number)] = {**default, "NAME": alias_of(number)}
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, *APPS]
    settings.DATABASE_ROUTERS = [f"{__name__}.ChosenDatabase"]
    django.setup()


def alias_of(number: int) -> str:
    return f"partitions_{number}"


def make(rows: int) -> None:
    """Make the log, and a copy for each number of partitions."""
    from django.db import connection, connections

    data.make(rows, sealed=False)
    add_newest()
    source = connection.settings_dict["NAME"]
    for number in LAYOUTS:
        connections.close_all()
        with connection._nodb_cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{alias_of(number)}"')
            cursor.execute(f'CREATE DATABASE "{alias_of(number)}" TEMPLATE "{source}"')
        if number:
            split(number, rows + NEWEST + rows // 50)
        with connections[alias_of(number)].cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
        print(f"{number} partitions made", flush=True)


def add_newest() -> None:
    """Add entries about data subjects, of which the last ones are not sealed."""
    from django.utils import timezone

    from myometrics_audit.models import AuditLog

    for numbers in (range(NEWEST), range(UNSEALED)):
        data.seal()
        AuditLog.objects.bulk_create(
            AuditLog(
                user_id=1 + number % data.USERS,
                action="viewed",
                resource_type="report",
                resource_id=f"report_{number}",
                data_subject=f"patient-{number % SUBJECTS}",
                timestamp=timezone.now(),
            )
            for number in numbers
        )


def split(number: int, size: int) -> None:
    """Put the entries into ``number`` partitions; close all but the last one."""
    from django.db import connections

    from myometrics_audit.log.guards import remove_guards
    from myometrics_testing.partitioned_log import close_partition, partition_log

    log, alias = data.entries_table(), alias_of(number)
    remove_guards(alias)
    bounds = [1 + place * -(-size // number) for place in range(number + AHEAD + 1)]
    with connections[alias].cursor() as cursor:
        cursor.execute("SET maintenance_work_mem = '512MB'; SET synchronous_commit = off")
        partition_log(*bounds, using=alias)
        cursor.execute(
            f'ALTER TABLE "{log}" ADD FOREIGN KEY (user_id) REFERENCES auth_user '
            "DEFERRABLE INITIALLY DEFERRED"
        )
        cursor.execute(
            f"SELECT setval(pg_get_serial_sequence(%s, 'id'), (SELECT max(id) FROM \"{log}\"))",
            [log],
        )
    for first_id in bounds[: number - 1]:
        close_partition(first_id, using=alias)


def short_works(rows: int) -> dict[str, Way]:
    """Map the name of each kind of work to a function that does it once."""
    from myometrics_audit.access_report.report import report_page
    from myometrics_audit.audit import record
    from myometrics_audit.listing import Selection, entries_page
    from myometrics_audit.listing.pages import entries_count
    from myometrics_audit.listing.selectors import entry_find
    from myometrics_core.times import utc_day, utc_now

    def page(offset: int = 0, **filters: Any) -> Way:
        return lambda: entries_page(Selection(**filters), offset, 20)

    middle = utc_day(utc_now()) - timedelta(days=data.DAYS // 2)
    span = {"start_date": middle, "end_date": middle + timedelta(days=30)}
    rare = {"action": "user_deleted", "resource_type": "user"}
    common = {"action": "viewed", "resource_type": "viewed"}
    return {
        "first page": page(),
        "action": page(action="viewed"),
        "rare action": page(action="user_deleted"),
        "resource type": page(resource_type="upload"),
        "user": page(user_id=7),
        "user and action": page(user_id=7, action="viewed"),
        "resource id": page(resource_id=f"upload_{rows // 6}"),
        "data subject": page(data_subject="patient-7"),
        "30 days": page(**span),
        "action and type": page(**common),
        "rare action and type": page(**rare),
        "action and type, 30 days": page(**common, **span),
        "page in the middle": page(rows // 2),
        "last page": page(rows - 20),
        "action, page in the middle": page(rows // 7, action="viewed"),
        "request of the first page": request("/ours/audit-logs/"),
        "request of the page in the middle": request(f"/ours/audit-logs/?page={rows // 40}"),
        "count of an action": lambda: entries_count(Selection(action="viewed")),
        "one entry": lambda: entry_find(str(rows // 2)),
        "access report": lambda: report_page(
            Selection(data_subject="patient-7", max_id=2 * rows), 0, 20, for_subject=False
        ),
        "insert": lambda: record(actor=None, action="viewed", resource=("report", "r1")),
        "stream": read_stream(),
        "review": read_for_review(),
    }


def request(path: str) -> Way:
    from django.contrib.auth import get_user_model
    from rest_framework.test import APIClient

    client = APIClient()
    client.force_authenticate(get_user_model().objects.get(pk=1))
    return lambda: client.get(path)


def read_stream() -> Way:
    from myometrics_audit.streams.options import StreamOptions
    from myometrics_audit.streams.pending import Position, read_pending

    options = StreamOptions(name="siem", url="tls://siem.example", format="ecs")
    return lambda: read_pending(options, Position(20, 0), 500)


def read_for_review() -> Way:
    from myometrics_audit.review.scanning import _read

    return lambda: _read(list(range(100_000, 105_000)), ChosenDatabase.alias)


def long_works() -> dict[str, Way]:
    """Map the names of slow kinds of work to functions that do them once."""
    from myometrics_audit.listing import Selection, entries_select
    from myometrics_audit.models import Seal
    from myometrics_audit.sealing import LogVerifier
    from myometrics_audit.sealing.export.batches import sealed_batches
    from myometrics_audit.sealing.verification.entry_checks import copied_entries, forged_entries
    from myometrics_audit.sealing.verification.seal_checks import KnownHead
    from myometrics_audit.sealing.verification.verifier import verify_range
    from myometrics_audit.signing.merkle import MerkleTree
    from myometrics_audit.signing.signatures import tree_seal

    ChosenDatabase.alias = alias_of(LAYOUTS[0])
    seals = list(Seal.objects.order_by("number"))[:-2]
    head = KnownHead(len(seals), MerkleTree(map(tree_seal, seals)).root())

    def verify_since() -> list[Any]:
        return list(LogVerifier(using=ChosenDatabase.alias, since=head).problems())

    def export() -> None:
        entries = entries_select(Selection())
        consume(sealed_batches(entries, ChosenDatabase.alias, since=60, until=61))

    return {
        "export of 2 seals": export,
        "verify 2 seals": lambda: verify_range(ChosenDatabase.alias, 59, 61).problems,
        "verify: forged entries": lambda: consume(forged_entries(ChosenDatabase.alias)),
        "verify: copies": lambda: consume(copied_entries(ChosenDatabase.alias)),
        "verify --since": verify_since,
    }


def consume(lines: Iterator[Any]) -> None:
    for _ in lines:
        pass


def measure(work: Way, rounds: int, calls: int) -> dict[int, float]:
    """Return the CPU seconds of one call with each number of partitions."""
    from django.db import connections

    costs: dict[int, list[float]] = defaultdict(list)
    for round_number in range(rounds + 1):
        for number in LAYOUTS:
            ChosenDatabase.alias = alias_of(number)
            with connections[alias_of(number)].cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                account = Path(f"/proc/{cursor.fetchone()[0]}/schedstat")
            before = cpu_seconds(account)
            for _ in range(calls):
                work()
            if round_number:  # the first one warms up
                costs[number].append((cpu_seconds(account) - before) / calls)
    return {number: statistics.median(found) for number, found in costs.items()}


def cpu_seconds(account: Path) -> float:
    return time.process_time() + int(account.read_text().split()[0]) / 1e9


def show(name: str, costs: dict[int, float]) -> None:
    ratios = " | ".join(f"{costs[number] / costs[1]:.2f}" for number in (0, 10, 100))
    print(f"| {name} | {costs[1] * 1000:.2f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
