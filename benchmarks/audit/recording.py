"""Cost of the mixin for views: the same view set with it and without it.

    python -m benchmarks.audit.recording [--requests 200] [--rounds 5]

Measures statements, the CPU of this process and its PostgreSQL backend, and the elapsed time per
request, alternating: a list of 100 data subjects, one object, and a change. Also 100 entries in one
statement and by the ORM. Needs DATABASE_URL, and first makes the data (everything in that database
is deleted).
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

from .data import make
from .insert import cpu_seconds

SUBJECTS = 100
Work = Callable[[int], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    django.setup()
    make(1000, sealed=False)
    add_objects()
    for name, (bare, recorded) in works().items():
        rounds = [
            (cost(bare, options.requests), cost(recorded, options.requests))
            for _ in range(options.rounds)
        ]
        report(name, rounds, statements(bare), statements(recorded))


def add_objects() -> None:
    from myometrics_audit.tracking import recorded

    from .site.models import PlainLog

    recorded(data_subject="resource_id")(PlainLog)
    PlainLog.objects.all().delete()
    PlainLog.objects.bulk_create(
        PlainLog(
            user_id=1,
            action="a",
            resource_type="b",
            resource_id=f"P-{number}",
            ip_address="10.0.0.1",
        )
        for number in range(SUBJECTS)
    )


def works() -> dict[str, tuple[Work, Work]]:
    """Return work → the same without and with recording."""
    from .site.models import PlainLog

    bare, recorded = request_with(), request_with(is_recorded=True)
    keys = list(PlainLog.objects.values_list("pk", flat=True))

    def each(method: str) -> tuple[Work, Work]:
        bodies = {} if method == "get" else {"data": True}
        return (
            lambda number: bare(method, keys[number % SUBJECTS], number, **bodies),
            lambda number: recorded(method, keys[number % SUBJECTS], number, **bodies),
        )

    return {
        "list of 100": (lambda n: bare("get", None, n), lambda n: recorded("get", None, n)),
        "retrieve": each("get"),
        "partial update": each("patch"),
        "100 entries: ORM, then one statement": (by_orm, by_one_statement),
    }


def request_with(*, is_recorded: bool = False) -> Callable[..., Any]:
    from django.contrib.auth import get_user_model
    from rest_framework import serializers, viewsets
    from rest_framework.test import APIRequestFactory, force_authenticate

    from myometrics_audit.tracking import RecordedViewMixin

    from .site.models import PlainLog

    class Serializer(serializers.ModelSerializer[PlainLog]):
        class Meta:
            model = PlainLog
            fields = ("id", "action", "resource_type", "resource_id", "timestamp", "user_agent")

    bases: tuple[type, ...] = (viewsets.ModelViewSet,)
    attributes = {
        "queryset": PlainLog.objects.order_by("pk"),
        "serializer_class": Serializer,
        "permission_classes": [],
    }
    if is_recorded:
        bases = (RecordedViewMixin, *bases)
    views: Any = type("Objects", bases, attributes)
    of_list = views.as_view({"get": "list"})
    of_one = views.as_view({"get": "retrieve", "patch": "partial_update"})
    factory, user = APIRequestFactory(), get_user_model().objects.get(pk=1)

    def run(method: str, key: int | None, number: int, *, data: bool = False) -> Any:
        body = {"user_agent": f"browser {number} {time.monotonic()}"} if data else None
        request = getattr(factory, method)("/", body, **({"format": "json"} if data else {}))
        force_authenticate(request, user)
        response = of_list(request) if key is None else of_one(request, pk=key)
        return response.render()

    return run


def entries() -> list[Any]:
    from myometrics_audit import audit

    return [
        audit.access_entry(actor=1, data_subject=f"P-{n}", resource=("patient", n))
        for n in range(SUBJECTS)
    ]


def by_one_statement(number: int) -> None:
    from myometrics_audit import audit

    audit.record_many(entries())


def by_orm(number: int) -> None:
    from myometrics_audit.log.services import new_row
    from myometrics_audit.models import AuditLog

    AuditLog.objects.bulk_create([new_row(entry) for entry in entries()])


def statements(work: Work) -> int:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as queries:
        work(1)
    return len(queries)


def cost(work: Work, requests: int) -> tuple[float, float]:
    """Return the milliseconds of CPU and of elapsed time per call."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        processes = [psutil.Process(), psutil.Process(cursor.fetchone()[0])]
    before, started = cpu_seconds(processes), time.perf_counter()
    for number in range(requests):
        work(number)
    elapsed = time.perf_counter() - started
    cpu = cpu_seconds(processes) - before
    return cpu / requests * 1e3, elapsed / requests * 1e3


def report(name: str, rounds: list[Any], bare_statements: int, statements: int) -> None:
    bare, recorded = zip(*rounds, strict=True)
    for unit, place in (("CPU", 0), ("elapsed", 1)):
        one, other = (statistics.median(cost[place] for cost in side) for side in (bare, recorded))
        print(f"{name}: {one:.2f} → {other:.2f} ms {unit}")
    print(f"{name}: {bare_statements} → {statements} statements")


if __name__ == "__main__":
    main()
