"""Cost of inserting an entry with its leaf: by the prepared statement, and by the ORM.

Also the cost of signing and inserting entries of version 1 and of version 2.

    python -m benchmarks.audit.insert [--entries 2000] [--rounds 5]

Measures the CPU of this process and its PostgreSQL backend, alternating. Needs DATABASE_URL, and
first makes the data (everything in that database is deleted).
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.audit.site.settings")

import django
import psutil

from .data import make

if TYPE_CHECKING:
    from myometrics_audit.models import AuditLog


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    django.setup()
    make(1000, sealed=False)
    ways = {"prepared": by_text, "ORM": by_orm, "version 1": version_1, "version 2": version_2}
    rounds = [
        {name: cost(insert, options.entries) for name, insert in ways.items()}
        for _ in range(options.rounds)
    ]
    for name in ways:
        microseconds = statistics.median(costs[name] for costs in rounds)
        print(f"{name}: {microseconds:.0f} µs an entry")
    for one, other in (("ORM", "prepared"), ("version 2", "version 1")):
        ratio = statistics.median(costs[one] / costs[other] for costs in rounds)
        print(f"{one} ÷ {other}: {ratio:.2f}")


def cost(insert: Callable[[AuditLog], None], entries: int) -> float:
    """Return the microseconds of CPU per entry of ``insert``."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        processes = [psutil.Process(), psutil.Process(cursor.fetchone()[0])]
    before = cpu_seconds(processes)
    for number in range(entries):
        insert(entry(number))
    return (cpu_seconds(processes) - before) / entries * 1e6


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def entry(number: int) -> AuditLog:
    from myometrics_audit.models import AuditLog
    from myometrics_audit.signing.signatures import new_nonce

    return AuditLog(
        action="upload_created",
        resource_type="upload",
        resource_id=str(number),
        user_id=1,
        ip_address="10.0.0.1",
        user_agent="benchmark",
        details={"filename": "cardiac_scan.jpg", "file_size": 2048576, "diagnosis": "Normal"},
        nonce=new_nonce(),
    )


LEAF = bytes(32)
"""Constant, since computing it costs the same in both cases."""


def by_text(row: AuditLog) -> None:
    from myometrics_audit.log.inserts import insert_entry
    from myometrics_audit.models import Leaf

    insert_entry(
        row,
        leaf_table=Leaf._meta.db_table,
        leaf=(LEAF, "bench", 2),
        using="default",
    )


def by_orm(row: AuditLog) -> None:
    from django.db import models, transaction

    from myometrics_audit.models import Leaf

    with transaction.atomic():
        models.Model.save(row, force_insert=True)
        Leaf(entry_id=row.pk, hash=LEAF, key_id="bench", version=2).save(force_insert=True)


def version_1(row: AuditLog) -> None:
    """Sign and insert as release 0.1 did, into the same columns."""
    from myometrics_audit.log.inserts import insert_entry
    from myometrics_audit.models import Leaf
    from myometrics_audit.signing.keys import active_key
    from myometrics_audit.signing.signatures import entry_leaf, new_nonce, subject_of

    row.nonce = new_nonce()
    key = active_key()
    leaf = entry_leaf(row, subject_of(row.user_id, key), key)
    insert_entry(row, leaf_table=Leaf._meta.db_table, leaf=(leaf, key.id, None), using="default")


def version_2(row: AuditLog) -> None:
    """Sign and insert."""
    row.save()


if __name__ == "__main__":
    main()
