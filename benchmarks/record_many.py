"""Uploads per second of ``audit.record_many`` with all packages installed.

    python -m benchmarks.record_many [--uploads 1000] [--rounds 5]

Three ways alternate on an own PostgreSQL (or DATABASE_URL), each in a transaction that is rolled
back:

- *together*: ``record_many``, whose events the packages receive in batches;
- *one by one*: the same, with each event published separately;
- *plain*: ``bulk_create`` of the same rows that ``record_many`` writes.

The uploads are new ones of ten users, reported as completed. Medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.export_million import database_url

USERS = 10
BATCH = 500


def measure(uploads: int, rounds: int) -> dict[str, float]:
    """Return the median seconds of each way."""
    from myometrics_audit import audit
    from myometrics_audit.log import services
    from myometrics_core.events import publish

    entries = _entries(uploads)

    def together() -> None:
        audit.record_many(entries)

    def one_by_one() -> None:
        def publish_each(activities: Any) -> None:
            for activity in activities:
                publish(activity)

        with mock.patch.object(services, "publish_many", publish_each):
            audit.record_many(entries)

    rows: dict[Any, list[Any]] = {}
    _seconds(together, lambda: rows.update(_rows_of_all_packages()))

    def plain() -> None:
        from django.db.models import QuerySet

        for model, instances in rows.items():
            QuerySet(model).bulk_create(instances, batch_size=BATCH)

    ways = {"together": together, "one by one": one_by_one, "plain": plain}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(_seconds(way))
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def _entries(uploads: int) -> list[Any]:
    from django.contrib.auth import get_user_model

    from myometrics_audit import audit

    create_user = get_user_model().objects.create_user
    users = [create_user(email=f"p{n}@clinic.example", password=None) for n in range(USERS)]
    return [
        audit.entry(
            actor=users[number % USERS],
            action="upload_completed",
            resource=("upload", f"upload_{number}"),
            details={"filename": f"scan_{number}.jpg", "diagnosis": "Normal", "processing_time": 4},
        )
        for number in range(uploads)
    ]


def report(found: dict[str, float], uploads: int) -> str:
    """Return the measurements as a table, with the ratio to ``plain``."""
    lines = [f"{uploads} uploads    uploads/s   time × plain"]
    for name, seconds in found.items():
        lines.append(f"{name:<15} {uploads / seconds:>9,.0f} {seconds / found['plain']:>14.2f}")
    ratio = found["one by one"] / found["together"]
    return "\n".join([*lines, f"together is {ratio:.1f} times as fast as one by one"])


def _seconds(way: Callable[[], None], look: Callable[[], object] = lambda: None) -> float:
    from django.db import transaction

    with transaction.atomic():
        started = time.perf_counter()
        way()
        took = time.perf_counter() - started
        look()
        transaction.set_rollback(True)
    return took


def _rows_of_all_packages() -> dict[Any, list[Any]]:
    from django.apps import apps

    names = ("audit", "analytics", "notifications")
    models = [m for name in names for m in apps.get_app_config(f"myometrics_{name}").get_models()]
    return {
        model: list(model._base_manager.all())
        for model in models
        if not model._meta.proxy and model._meta.managed and model._base_manager.exists()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uploads", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with database_url() as url:
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "example_project"))
        os.environ.update(DATABASE_URL=url, DEBUG="false", LOG_LEVEL="ERROR")
        os.environ.setdefault("SECRET_KEY", "benchmark" * 8)
        os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
        import django
        from django.core.management import call_command
        from django.db import connections

        django.setup()
        call_command("migrate", verbosity=0)
        print(report(measure(options.uploads, options.rounds), options.uploads))
        connections.close_all()


if __name__ == "__main__":
    main()
