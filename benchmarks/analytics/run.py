"""Cost of ``GET /api/analytics/``, compared with a bare view over a precomputed daily table.

    python -m benchmarks.analytics.run --uploads 30000,300000,3000000

Starts PostgreSQL and Redis (or uses DATABASE_URL, which may create databases, and REDIS_URL), fills
one database per size, serves the example project and the bare views with gunicorn, and alternates
between them. The cost of a request is the CPU time of gunicorn, PostgreSQL and Redis together,
divided by the number of requests; medians of the rounds. The endpoint runs with authentication,
rate limit and access log; the bare views run without them.
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psutil
import psycopg
import redis

from myometrics_testing.services import OwnedServer

ROOT = Path(__file__).resolve().parents[2]
GUNICORN_OPTIONS = ["--workers", "2", "--timeout", "300", "--bind", "127.0.0.1:0"]
HEADER = (
    "CPU per request in ms (medians), and ratios.\n\n"
    "| uploads | days | endpoint | ready | ratio | asked | ratio | whole | ratio "
    "| ORM | ORM ÷ ready | ORM ÷ endpoint |\n"
    "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


@dataclass(frozen=True)
class Server:
    """A running gunicorn and its address."""

    process: subprocess.Popen[bytes]
    url: str
    services: tuple[psutil.Process, ...]


def main() -> None:
    """Measure every size, and print a Markdown report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uploads", default="30000,300000,3000000")
    parser.add_argument("--days", default="30,90,365,3650")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=60, help="requests a round")
    parser.add_argument("--reuse", action="store_true", help="databases that an earlier run filled")
    parser.add_argument("--slow-requests", type=int, default=3, help="of the ORM view, a round")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.uploads.split(",")]
    with ExitStack() as stack:
        database_url = os.environ.get("DATABASE_URL") or _owned("postgresql", stack)
        redis_url = os.environ.get("REDIS_URL") or _owned("redis", stack)
        print(HEADER, flush=True)
        for size in sizes:
            _measure_size(size, database_url, redis_url, arguments)


def _owned(kind: str, stack: ExitStack) -> str:
    server = OwnedServer(kind)
    stack.callback(server.close)
    return str(server.url)


def _measure_size(size: int, database_url: str, redis_url: str, arguments: Any) -> None:
    name = f"analytics_bench_{size}"
    environment = {
        **os.environ,
        "DATABASE_URL": _with_database(database_url, name),
        "REDIS_URL": redis_url,
        "SECRET_KEY": secrets.token_hex(32),
        "RATE_LIMIT_API": "100000/minute",
        "RATE_LIMIT_AUTH": "1000/minute",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "example_project")]),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DJANGO_SUPERUSER_EMAIL": "admin@bench.test",
        "DJANGO_SUPERUSER_PASSWORD": "a-long-enough-password-7",
        "EMAIL_BACKEND": "django.core.mail.backends.dummy.EmailBackend",
    }
    if not arguments.reuse:
        _fill(size, name, database_url, environment)
    with (
        _gunicorn(
            "config.wsgi:application",
            environment,
        ) as ours,
        _gunicorn(
            "django.core.wsgi:get_wsgi_application()",
            {**environment, "DJANGO_SETTINGS_MODULE": "benchmarks.analytics.bare_site"},
        ) as bare,
    ):
        token = _sign_in(ours)
        for days in map(int, arguments.days.split(",")):
            _report(size, days, _compare(ours, bare, token, days, arguments))


def _fill(size: int, name: str, database_url: str, environment: dict[str, str]) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
    started = time.monotonic()
    _django("migrate --verbosity 0", environment)
    _django("createsuperuser --noinput --verbosity 0", environment)
    code = (
        f"import django; django.setup(); from benchmarks.analytics.data import fill; fill({size})"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=ROOT)
    print(f"filled {size} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _django(command: str, environment: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-m", "django", *command.split()], env=environment, check=True, cwd=ROOT
    )


@contextmanager
def _gunicorn(application: str, environment: dict[str, str]) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *GUNICORN_OPTIONS, application],
            env=environment, cwd=ROOT, stdout=log.open("wb"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            services = _service_processes(environment["DATABASE_URL"], environment["REDIS_URL"])
            yield Server(process, _address(process, log), services)
        finally:
            process.terminate()
            process.wait(30)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if "Listening at: " in line:
                return line.partition("Listening at: ")[2].split()[0]
        time.sleep(0.05)
    raise SystemExit(log.read_text())


def _sign_in(server: Server) -> str:
    body = {"email": "admin@bench.test", "password": "a-long-enough-password-7"}
    answer = httpx.post(f"{server.url}/api/auth/login/", json=body, timeout=60)
    return str(answer.raise_for_status().json()["access"])


def _compare(
    ours: Server, bare: Server, token: str, days: int, arguments: Any
) -> dict[str, list[float]]:
    variants = {
        "ready": (bare, "/ready/", arguments.requests),
        "ours": (ours, "/api/analytics/", arguments.requests),
        "asked": (bare, "/asked/", arguments.requests),
        "whole": (bare, "/whole/", arguments.requests),
        "orm": (bare, "/orm/", arguments.slow_requests),
    }
    costs: dict[str, list[float]] = {name: [] for name in variants}
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=120) as client:
        for number in range(arguments.rounds + 1):
            for name, (server, path, requests) in variants.items():
                cost = _cost(client, server, f"{path}?days={days}", requests)
                if number:  # the first round warms up
                    costs[name].append(cost)
    return costs


def _cost(client: httpx.Client, server: Server, path: str, requests: int) -> float:
    before = _cpu(server)
    for _ in range(requests):
        client.get(f"{server.url}{path}").raise_for_status()
    return (_cpu(server) - before) / requests * 1000


def _cpu(server: Server) -> float:
    """Return the CPU seconds so far of the server, PostgreSQL and Redis."""
    total = 0.0
    for root in (psutil.Process(server.process.pid), *server.services):
        for process in (root, *root.children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
    return total


def _service_processes(database_url: str, redis_url: str) -> tuple[psutil.Process, ...]:
    """Return the process ids of PostgreSQL's postmaster and of Redis, both on this machine."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        postmaster = psutil.Process(row[0] if row else 0).parent()
    with redis.Redis.from_url(redis_url) as client:
        keeper = psutil.Process(int(client.info("server")["process_id"]))
    return (postmaster, keeper) if postmaster else (keeper,)


def _report(size: int, days: int, costs: dict[str, list[float]]) -> None:
    median = {name: statistics.median(found) for name, found in costs.items()}
    ours, orm = median["ours"], median["orm"]
    beside = " | ".join(
        f"{median[name]:.2f} | {ours / median[name]:.2f} ×" for name in ("ready", "asked", "whole")
    )
    ratios = f"{orm / median['ready']:.0f} × | {orm / ours:.0f} ×"
    print(f"| {size:,} | {days:,} | {ours:.2f} | {beside} | {orm:.1f} | {ratios} |", flush=True)


def _with_database(url: str, name: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{name}"))


if __name__ == "__main__":
    main()
