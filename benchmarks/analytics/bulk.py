"""Uploads per second of everything that writes many at once, beside ``bulk_create``.

    python -m benchmarks.analytics.bulk [--uploads 10000] [--rounds 5]

On an own PostgreSQL (or DATABASE_URL) and on SQLite, in turns:

- *audit*: ``audit.record_many`` of entries that no other package receives;
- *events*: the upload events of ``audit.record_many``, received in batches of 500;
- *pull*: ``uploads_pull`` from an HTTP server, and *pull again*: the same list once more;
- *rebuild*: ``rebuild_run`` of as many audit entries, with the fold and the self-check.

Each is followed by *plain*: the rows that it has written, as model instances and by Django's
``bulk_create`` in batches of 500, in one transaction. CPU is that of this process and of
PostgreSQL's backend, in microseconds for one upload; the ratios are those of CPU. Medians over the
rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psutil

from benchmarks.export_million import database_url
from myometrics_testing.services import free_port
from myometrics_testing.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
USERS = 100
BATCH = 500
START = datetime(2026, 1, 5, tzinfo=timezone.utc)
HEADER = (
    "| database | way | uploads/s | plain | CPU, Python | plain | CPU, database | plain | CPU ÷ "
    "plain |\n|---|---|--:|--:|--:|--:|--:|--:|--:|"
)


@dataclass(frozen=True)
class Cost:
    """Seconds of one run: elapsed, CPU of this process, CPU of the database's backend."""

    elapsed: float
    python: float
    database: float


@dataclass
class Way:
    """A way to write uploads, and the models whose rows ``bulk_create`` writes beside it.

    Without ``prepare`` it runs in a transaction that is rolled back.
    """

    run: Callable[[], object]
    models: tuple[Any, ...]
    prepare: Callable[[], object] | None = None
    costs: list[Cost] = field(default_factory=list)
    plain: list[Cost] = field(default_factory=list)


class Clock:
    """Measures this process and, on PostgreSQL, the backend of its connection."""

    def __init__(self) -> None:
        from django.db import connection

        self._backend = None
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                self._backend = psutil.Process(cursor.fetchone()[0])

    def cost(self, run: Callable[[], object]) -> Cost:
        """Return the cost of ``run``."""
        before, python, started = self._database(), time.process_time(), time.perf_counter()
        run()
        elapsed, python = time.perf_counter() - started, time.process_time() - python
        return Cost(elapsed, python, self._database() - before)

    def _database(self) -> float:
        return sum(self._backend.cpu_times()[:2]) if self._backend else 0.0


def measure(uploads: int, rounds: int) -> dict[str, Way]:
    """Measure every way in turns; the first round warms up."""
    from myometrics_analytics import models
    from myometrics_analytics.pull.pulling import uploads_pull
    from myometrics_analytics.rollups import rebuild_run
    from myometrics_audit import audit
    from myometrics_audit.models import AuditLog, Leaf

    users, clock = _make_users(), Clock()
    entries = [_entry(users, number, "report") for number in range(uploads)]
    replayed = audit.record_many([_entry(users, number, "upload") for number in range(uploads)])
    facts = (models.Upload, models.PendingChange)
    rollups = (models.DailyRollup, models.DayRollup, models.UserRollup)
    with image_service([_row(users, number) for number in range(uploads)]):
        ways = {
            "audit": Way(lambda: audit.record_many(entries), (AuditLog, Leaf)),
            "events": Way(lambda: _receive(replayed), facts, _clear),
            "pull": Way(uploads_pull, facts, _clear),
            "pull again": Way(uploads_pull, facts, lambda: (_clear(), uploads_pull())),
            "rebuild": Way(lambda: rebuild_run(restart=True), (models.Upload, *rollups), _clear),
        }
        for number in range(rounds + 1):
            for name, way in ways.items():
                cost, plain = _measure_way(way, clock)
                print(name, cost, file=sys.stderr, flush=True)
                if number:
                    way.costs.append(cost)
                    way.plain.append(plain)
    return ways


def _measure_way(way: Way, clock: Clock) -> tuple[Cost, Cost]:
    """Return the costs of the way, and of ``bulk_create`` of the rows that it has written."""
    from django.db import transaction

    if way.prepare:
        way.prepare()
        cost = clock.cost(way.run)
        rows = {model: _values(model._base_manager.all()) for model in way.models}
        _clear()
    else:
        last = {model: model._base_manager.latest("pk").pk for model in way.models}
        with transaction.atomic():
            cost = clock.cost(way.run)
            new = {model: model._base_manager.filter(pk__gt=key) for model, key in last.items()}
            rows = {model: _values(found) for model, found in new.items()}
            transaction.set_rollback(True)
    with transaction.atomic():
        plain = clock.cost(lambda: _insert(rows))
        transaction.set_rollback(True)
    return cost, plain


def _insert(rows: dict[Any, list[dict[str, Any]]]) -> None:
    from django.db.models import QuerySet

    for model, values in rows.items():
        instances = [model(**of_row) for of_row in values]
        QuerySet(model).bulk_create(instances, batch_size=BATCH)


def _values(rows: Any) -> list[dict[str, Any]]:
    """Return the values of rows, with their keys: leaves refer to their entries."""
    fields = [field.attname for field in rows.model._meta.concrete_fields]
    return [{name: getattr(row, name) for name in fields} for row in rows]


def _receive(entries: list[Any]) -> None:
    from myometrics_analytics.facts.event_conversion import receive_events
    from myometrics_audit.log.events import event_of

    for first in range(0, len(entries), BATCH):
        receive_events([event_of(entry) for entry in entries[first : first + BATCH]])


def _clear() -> None:
    """Empty the tables of analytics."""
    from django.apps import apps
    from django.db import connection

    for model in apps.get_app_config("myometrics_analytics").get_models():
        if model._meta.managed and not model._meta.proxy:
            model._base_manager.all().delete()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")


def _make_users() -> list[Any]:
    from django.contrib.auth import get_user_model

    create_user = get_user_model().objects.create_user
    return [create_user(email=f"p{n}@clinic.example", password=None) for n in range(USERS)]


def _entry(users: list[Any], number: int, resource_type: str) -> Any:
    from myometrics_audit import audit

    return audit.entry(
        actor=users[number % USERS],
        action="upload_completed",
        resource=(resource_type, f"upload_{number}"),
        details={"filename": f"scan_{number}.jpg", "diagnosis": "Normal", "processing_time": 4},
    )


def _row(users: list[Any], number: int) -> dict[str, Any]:
    return {
        "user_id": str(users[number % USERS].pk),
        "upload_id": f"upload_{number}",
        "upload_time": (START + timedelta(minutes=number)).isoformat(),
        "original_filename": f"scan_{number}.jpg",
        "file_type": "image/jpeg",
        "status": "processed",
        "diagnosis": "Normal",
        "confidence_score": 0.97,
    }


@contextmanager
def image_service(rows: list[dict[str, Any]]) -> Iterator[None]:
    """Serve ``rows`` from another process under ``MICROSERVICE_URL``."""
    port = int(os.environ["MICROSERVICE_URL"].rpartition(":")[2])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "uploads").write_text(json.dumps({"uploads": rows, "count": len(rows)}))
        command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
        server = subprocess.Popen(
            [*command, "--directory", folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for(lambda: _is_open(port))
            yield
        finally:
            server.terminate()
            server.wait()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def report(vendor: str, ways: dict[str, Way], uploads: int) -> str:
    """Return the lines of one database."""
    lines = []
    for name, way in ways.items():
        ours, plain = (
            [statistics.median(column) for column in zip(*map(astuple, costs), strict=True)]
            for costs in (way.costs, way.plain)
        )
        ratio = sum(ours[1:]) / sum(plain[1:])
        cells = [f"{uploads / ours[0]:,.0f}", f"{uploads / plain[0]:,.0f}"]
        for part in (1, 2):
            cells += [f"{found[part] / uploads * 1e6:.0f}" for found in (ours, plain)]
        lines.append(" | ".join([f"| {vendor} | {name}", *cells, f"{ratio:.2f} × |"]))
    return "\n".join(lines)


def _measure_here(uploads: int, rounds: int) -> None:
    sys.path.insert(0, str(ROOT / "example_project"))
    import django
    from django.core.management import call_command
    from django.db import connection

    django.setup()
    call_command("migrate", verbosity=0)
    print(report(connection.vendor, measure(uploads, rounds), uploads), flush=True)
    connection.close()


def main() -> None:
    """Measure both databases, each in its own process, and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--uploads", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--here", action="store_true", help="in this process, on DATABASE_URL")
    options = parser.parse_args()
    if options.here:
        _measure_here(options.uploads, options.rounds)
        return
    environment = {
        **os.environ,
        "DEBUG": "false",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "LOG_LEVEL": "ERROR",
        "SECRET_KEY": "benchmark" * 8,
        "MICROSERVICE_URL": f"http://127.0.0.1:{free_port()}",
    }
    print(HEADER, flush=True)
    with database_url() as postgresql, tempfile.TemporaryDirectory() as folder:
        for url in (postgresql, f"sqlite:///{folder}/db.sqlite3"):
            command = [sys.executable, "-m", "benchmarks.analytics.bulk", "--here"]
            command += [f"--uploads={options.uploads}", f"--rounds={options.rounds}"]
            subprocess.run(command, env={**environment, "DATABASE_URL": url}, check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
