"""A user's export with a million audit entries: first byte, memory, CPU.

    python benchmarks/export_million.py [--rows 1000000]

Starts its own PostgreSQL (or uses DATABASE_URL), fills it, and measures each export in a child
process, compared with a bare ``COPY … TO STDOUT`` of the same rows. CPU is that of the child and
its PostgreSQL backend together.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).resolve().parent.parent / "example_project"
SUBJECTS = ("copy", "csv", "json")
ROUNDS = 2
FILL = """
INSERT INTO myometrics_audit_auditlog (user_id, action, resource_type, resource_id, "timestamp",
    ip_address, user_agent, details, pseudonym, nonce, origin)
SELECT %s, 'upload_created', 'upload', 'upload_' || n, now() - n * interval '1 second',
    '203.0.113.7', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
    jsonb_build_object('filename', 'cardiac_scan_' || n || '.jpg', 'file_size', 2000000 + n,
        'diagnosis', 'Normal', 'confidence', 0.93), '', decode(md5(n::text), 'hex'),
    CASE WHEN mod(n, 2) = 0 THEN 'client' END
FROM generate_series(1, %s) n
"""
INDEXES = """
SELECT indexname FROM pg_indexes WHERE tablename = 'myometrics_audit_auditlog'
AND indexname NOT IN ('myo_audit_user', 'myometrics_audit_auditlog_pkey')
"""
COPY = "COPY (SELECT {} FROM myometrics_audit_auditlog WHERE user_id = {}) TO STDOUT"
COLUMNS = (
    "id, user_id, action, resource_type, resource_id, timestamp, ip_address, user_agent, details, "
    "origin"
)


def run(rows: int) -> dict[str, dict[str, float]]:
    """Fill a database with ``rows`` entries; return measurements by subject.

    The subjects alternate. The round with the least CPU counts, since other load only adds to it.
    """
    with database_url() as url:
        environment = {**os.environ, "DATABASE_URL": url, "DEBUG": "true", "LOG_LEVEL": "ERROR"}
        _child("fill", environment, str(rows))
        rounds = [
            {subject: json.loads(_child(subject, environment)) for subject in SUBJECTS}
            for _ in range(ROUNDS)
        ]
    return {
        subject: min((found[subject] for found in rounds), key=lambda measured: measured["cpu"])
        for subject in SUBJECTS
    }


def report(results: dict[str, dict[str, float]], rows: int) -> str:
    """Return the measurements as a table, with CPU as a ratio to the bare COPY."""
    bare = results["copy"]["cpu"]
    lines = [
        f"{rows} rows    first byte s   seconds   CPU s (client)   × COPY   peak growth MB   MB out"
    ]
    for subject, found in results.items():
        lines.append(
            f"{subject:<12} {found['first_byte']:>11.3f} {found['seconds']:>9.1f} "
            f"{found['cpu']:>7.2f} ({found['own_cpu']:.2f}) {found['cpu'] / bare:>11.2f} "
            f"{found['growth']:>16.1f} {found['size']:>8.0f}"
        )
    return "\n".join(lines)


def _child(*command: str | dict[str, str]) -> str:
    subject, environment, *arguments = command
    return subprocess.run(
        [sys.executable, __file__, "--child", str(subject), *map(str, arguments)],
        env=environment,  # type: ignore[arg-type]
        cwd=EXAMPLE,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


@contextlib.contextmanager
def database_url() -> Iterator[str]:
    """Yield DATABASE_URL, or the URL of a PostgreSQL server started for this block."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
        return
    from myometrics_testing.services import OwnedServer

    server = OwnedServer("postgresql")
    try:
        yield server.url
    finally:
        server.close()


def _in_child(subject: str, arguments: list[str]) -> None:
    sys.path.insert(0, str(EXAMPLE))
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    import django

    django.setup()
    if subject == "fill":
        _fill(int(arguments[0]))
    else:
        print(json.dumps(_measure(subject)))


def _fill(rows: int) -> None:
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    user = get_user_model().objects.create_user(email="many@clinic.example", password=None)
    with connection.cursor() as cursor:
        cursor.execute(INDEXES)
        for (index,) in cursor.fetchall():
            cursor.execute(f'DROP INDEX "{index}"')  # filling is not measured
        cursor.execute(FILL, [user.pk, rows])
        cursor.execute("VACUUM ANALYZE myometrics_audit_auditlog")


def _measure(subject: str) -> dict[str, float]:
    import psutil
    from django.contrib.auth import get_user_model
    from django.db import connection

    from myometrics_core.personal_data import export_chunks

    user = get_user_model().objects.get(email="many@clinic.example")
    chunks = {
        "copy": lambda: _bare_copy(user.pk),
        "csv": lambda: export_chunks(user, "csv"),
        "json": lambda: export_chunks(user, "json"),
    }[subject]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        processes = [psutil.Process(), psutil.Process(cursor.fetchone()[0])]
    memory, cpu = _peak_megabytes(), _cpu_seconds(processes)
    own = _cpu_seconds(processes[:1])
    started = time.perf_counter()
    first = first_cpu = 0.0
    size = 0
    for chunk in chunks():
        if not size:
            first, first_cpu = time.perf_counter() - started, _cpu_seconds(processes) - cpu
        size += len(chunk)
    return {
        "first_byte": first,
        "first_byte_cpu": first_cpu,
        "seconds": time.perf_counter() - started,
        "cpu": _cpu_seconds(processes) - cpu,
        "own_cpu": _cpu_seconds(processes[:1]) - own,
        "growth": _peak_megabytes() - memory,
        "size": size / 1e6,
    }


def _bare_copy(user_id: Any) -> Iterator[bytes]:
    from django.db import connection

    with connection.cursor() as cursor, cursor.copy(COPY.format(COLUMNS, int(user_id))) as copy:
        while data := copy.read():
            yield bytes(data)


def _peak_megabytes() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _cpu_seconds(processes: list[Any]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _in_child(sys.argv[2], sys.argv[3:])
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--rows", type=int, default=1_000_000)
        parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
        wanted = parser.parse_args()
        found = run(wanted.rows)
        print(json.dumps(found) if wanted.json else report(found, wanted.rows))
