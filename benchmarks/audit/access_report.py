"""Pages of access reports, compared with one bare indexed statement for the same rows.

    DATABASE_URL=… python -m benchmarks.audit.access_report --rows 10000000

First makes the data (everything in the database is deleted): 100,000 data subjects, of which few
have many entries and many have few. Per page, in turn, wall time and CPU of this process and its
PostgreSQL backend for

- *bare*: one prepared statement: count, page and user names;
- *page*: the report's rows with their count, without the users;
- *report*: the rows with their users, as the API and the admin show them;
- *request*: the whole request, which also records the reading.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.audit.site.settings")

import django
import psutil

from .data import AGENT, DAYS, USERS, drop_indexes, entries_table, make_users

SUBJECTS = 100_000
ENTRIES = f"""
INSERT INTO myometrics_audit_auditlog (id, user_id, action, resource_type, resource_id, timestamp,
    ip_address, user_agent, details, pseudonym, nonce, origin, data_subject, purpose, legal_basis)
SELECT n, 1 + abs(hashint8(n + 7)) %% {USERS}, 'report_viewed', 'clinic.report', 'r' || n / 3,
       now() - (%(rows)s - n) * (interval '{DAYS * 24} hours' / %(rows)s),
       ('10.0.' || n %% 250 || '.' || n / 250 %% 250)::inet, '{AGENT}',
       '{{}}', '', decode(md5(n || 'nonce'), 'hex'), 'server',
       'patient-' || floor({SUBJECTS} * power(abs(hashint8(n)) / 2147483648.0, 2)),
       'treatment', 'GDPR 9(2)(h)'
FROM generate_series(1, %(rows)s) n
"""
BARE = """
SELECT a.id, a.timestamp, a.user_id, a.pseudonym, a.action, a.resource_type, a.resource_id,
    a.purpose, a.legal_basis, a.origin, u.first_name, u.last_name, u.username,
    (SELECT count(*) FROM {table} WHERE data_subject = %s AND data_subject > '')
FROM {table} a LEFT JOIN auth_user u ON u.id = a.user_id
WHERE a.data_subject = %s AND a.data_subject > ''
ORDER BY a.timestamp DESC, a.id DESC LIMIT 20 OFFSET %s
"""
Way = Callable[[str, int], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--keep", action="store_true", help="use the data of the last run")
    options = parser.parse_args()
    django.setup()
    if not options.keep:
        make(options.rows)
    ways: dict[str, Way] = {"bare": bare(), "page": page, "report": report, "request": request()}
    print("| page | bare, ms | " + " | ".join(f"{way}, × bare" for way in list(ways)[1:]) + " |")
    print("|---|---|---|---|---|")
    for name, pages in sampled_pages(options.samples).items():
        figures = measure(ways, pages)
        # CPU is counted in hundredths of a second: only its mean says anything.
        for unit, average in (("wall", statistics.median), ("CPU", statistics.mean)):
            cost = {way: average(one[unit] for one in figures[way]) for way in ways}
            ratios = " | ".join(f"{cost[way] / cost['bare']:.2f}" for way in list(ways)[1:])
            print(f"| {name} ({unit}) | {cost['bare']:.2f} | {ratios} |", flush=True)


def make(rows: int) -> None:
    """Replace the database's content with ``rows`` entries about data subjects."""
    from django.core.management import call_command
    from django.db import connection

    started = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SET maintenance_work_mem = '1GB'; SET synchronous_commit = off")
        make_users(cursor)
        cursor.execute("UPDATE auth_user SET is_superuser = true WHERE id = 1")
        indexes = drop_indexes(cursor)
        cursor.execute(ENTRIES, {"rows": rows})
        for sql in indexes:
            cursor.execute(sql)
        cursor.execute(
            "SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", [entries_table(), rows]
        )
        cursor.execute("VACUUM ANALYZE")
    print(f"{rows:,} rows in {time.monotonic() - started:.0f} s", flush=True)


def sampled_pages(samples: int) -> dict[str, list[tuple[str, int]]]:
    """Return name → (data subject, offset) of the pages to read."""
    any_subject = [f"patient-{number * SUBJECTS // samples}" for number in range(samples)]
    # The only subjects with tens of thousands of entries.
    frequent = [f"patient-{number % 5}" for number in range(samples // 4)]
    return {
        "first of a subject": [(subject, 0) for subject in any_subject],
        "second of a subject": [(subject, 20) for subject in any_subject],
        "first of a frequent subject": [(subject, 0) for subject in frequent],
        "200th of a frequent subject": [(subject, 199 * 20) for subject in frequent],
    }


def measure(ways: dict[str, Way], pages: list[tuple[str, int]]) -> dict[str, list[dict[str, Any]]]:
    """Read each page by each way, in changing order; return milliseconds by way."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        processes = [psutil.Process(), psutil.Process(cursor.fetchone()[0])]
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    names = list(ways)
    for number, (subject, offset) in enumerate(pages):
        turn = number % len(names)
        for way in names[turn:] + names[:turn]:
            cpu, started = cpu_seconds(processes), time.perf_counter()
            # Ten times: the kernel counts CPU in hundredths of a second.
            for _ in range(10):
                ways[way](subject, offset)
            found[way].append(
                {
                    "wall": (time.perf_counter() - started) * 100,
                    "CPU": (cpu_seconds(processes) - cpu) * 100,
                }
            )
    return found


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def bare() -> Way:
    from myometrics_core.db import fetch_rows

    sql = BARE.format(table=entries_table())

    def read(subject: str, offset: int) -> Any:
        return fetch_rows(sql, [subject, subject, offset])

    return read


def page(subject: str, offset: int) -> Any:
    from myometrics_audit.access_report.report import COLUMNS
    from myometrics_audit.listing import Selection, entries_page

    return entries_page(Selection(data_subject=subject), offset, 20, columns=COLUMNS)


def report(subject: str, offset: int) -> Any:
    from myometrics_audit.access_report.report import report_page
    from myometrics_audit.listing import Selection

    return report_page(Selection(data_subject=subject), offset, 20, for_subject=False)


def request() -> Way:
    from django.contrib.auth import get_user_model
    from rest_framework.test import APIClient

    client = APIClient()
    client.force_authenticate(get_user_model().objects.get(pk=1))

    def read(subject: str, offset: int) -> Any:
        query = {"data_subject": subject, "page": str(1 + offset // 20)}
        answer = client.get("/ours/audit-logs/access-report/", query)
        if answer.status_code != 200 and offset == 0:
            raise RuntimeError(f"{answer.status_code} {answer.content!r}")

    return read


if __name__ == "__main__":
    main()
