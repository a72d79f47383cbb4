"""The composed site under its client's traffic: requests per second, latencies, CPU.

    python benchmarks/load.py [--seconds 60] [--clients 8] [--report PATH]

Runs the site (gunicorn with two processes, worker, beat) with rate limits and access log, on its
own PostgreSQL and Redis, filled with 120 days of uploads. First all requests mixed in the client's
proportions, in a closed loop (a client sends its next request after the response); then each
endpoint alone, alternating with a bare Django view that does the minimum. CPU is that of the web
processes, PostgreSQL and Redis together. Queries are those of one warm request, without transaction
control.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "example_project" / "tests")]

from running_site import RunningSite  # noqa: E402

from benchmarks.audit.processes import cpu_seconds  # noqa: E402
from benchmarks.load_inside import queries, rate_limit_check  # noqa: E402
from myometrics_testing.services import OwnedServer  # noqa: E402

EMAIL, PASSWORD = "admin@example.com", "myometrics-demo"
ENTRY = {
    "action": "view",
    "resource_type": "patient",
    "resource_id": "42",
    "details": {"page": "summary", "seconds": 12.5},
}
SIGN_IN = {"email": EMAIL, "password": PASSWORD}


@dataclass(frozen=True)
class Endpoint:
    """A kind of request, and its share of the mix."""

    name: str
    share: int
    method: str
    path: str
    body: Any = None
    bare_path: str = ""


ENDPOINTS = (
    Endpoint("sign-in", 1, "POST", "/api/auth/login/", SIGN_IN),
    Endpoint("profile", 20, "GET", "/api/auth/user/"),
    Endpoint("activity", 10, "GET", "/api/users/me/activity/"),
    Endpoint("audit write", 30, "POST", "/api/audit-logs/", ENTRY, "/api/audit-logs/write/"),
    Endpoint("audit list", 3, "GET", "/api/audit-logs/"),
    Endpoint("analytics", 1, "GET", "/api/analytics/"),
)
PREPARE = """
from django.db import connection
from benchmarks.load_bare import TABLE
connection.cursor().execute(TABLE)
connection.cursor().execute("ANALYZE")
"""


@dataclass
class Tally:
    """Latencies (seconds) of successful responses, and the number of others."""

    seconds: list[float] = field(default_factory=list)
    errors: int = 0


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int, token: str = "") -> None:
        self.connection = http.client.HTTPConnection("localhost", port, timeout=60)
        self.headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}

    def send(self, endpoint: Endpoint, path: str = "") -> tuple[int, bytes]:
        """Return status and body of a response."""
        body = None if endpoint.body is None else json.dumps(endpoint.body)
        self.connection.request(endpoint.method, path or endpoint.path, body, self.headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def timed(self, endpoint: Endpoint, tally: Tally, path: str = "") -> None:
        """Send, and record the latency or the error."""
        start = time.perf_counter()
        try:
            status, _ = self.send(endpoint, path)
        except (OSError, http.client.HTTPException):
            self.connection.close()
            status = 0
        if 200 <= status < 300:
            tally.seconds.append(time.perf_counter() - start)
        else:
            tally.errors += 1


@dataclass
class Bench:
    """The running servers, and the credentials of the clients."""

    site: RunningSite
    bare: RunningSite
    servers: list[int]
    token: str

    def client(self) -> Client:
        """Return a new client of the site."""
        return Client(self.site.port, self.token)

    def cpu(self, site: RunningSite) -> float:
        """Return the CPU seconds used so far by ``site``'s web processes, PostgreSQL and Redis."""
        return cpu_seconds([site.processes["web"].pid, *self.servers])


@contextmanager
def bench() -> Iterator[Bench]:
    """Start all servers, filled and warm."""
    postgresql, redis = OwnedServer("postgresql"), OwnedServer("redis")
    with tempfile.TemporaryDirectory() as folder:
        site, bare = (RunningSite(Path(folder), postgresql.url, redis.url) for _ in range(2))
        try:
            yield _started(site, bare, [postgresql._owner.pid, redis._owner.pid])
        finally:
            site.stop()
            bare.stop()
            redis.close()
            postgresql.close()


def _started(site: RunningSite, bare: RunningSite, servers: list[int]) -> Bench:
    limits = {f"RATE_LIMIT_{name}": "1000000/minute" for name in ("AUTH", "API")}
    folders = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    common = {"SECRET_KEY": site.environment["SECRET_KEY"], "PYTHONPATH": folders, **limits}
    site.environment |= common
    site.manage("migrate", "--verbosity=0")
    site.environment["DEBUG"] = "true"
    site.manage("seed_demo")
    site.environment["DEBUG"] = "false"
    site.manage("shell", "-c", PREPARE)
    site.start()
    bare.environment |= {**common, "DJANGO_SETTINGS_MODULE": "benchmarks.load_bare"}
    bare.run("web")
    bare.wait_until_ready()
    status, body = Client(site.port).send(ENDPOINTS[0])
    assert status == 200, body
    return Bench(site, bare, servers, json.loads(body)["access"])


def mixed(
    connect: Callable[[], Client], seconds: float, clients: int
) -> tuple[dict[str, Tally], float]:
    """Return latencies by endpoint for all kinds of requests at once, and the seconds it took."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    end = time.perf_counter() + seconds
    start = time.perf_counter()

    def work(number: int) -> None:
        client, choose = connect(), random.Random(number)
        shares = [endpoint.share for endpoint in ENDPOINTS]
        while time.perf_counter() < end:
            (endpoint,) = choose.choices(ENDPOINTS, shares)
            client.timed(endpoint, tallies[endpoint.name])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tallies, time.perf_counter() - start


def compared(found: Bench, endpoint: Endpoint, seconds: float) -> dict[str, float]:
    """Return CPU milliseconds per request, ours and bare, and the median ratio of turns."""
    turns, ours, bare = 5, [], []
    for _ in range(turns):
        ours.append(_cpu_each(found, found.site, endpoint, "", seconds / turns / 2))
        path = endpoint.bare_path or endpoint.path
        bare.append(_cpu_each(found, found.bare, endpoint, path, seconds / turns / 2))
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    return {"ours": statistics.median(ours), "bare": statistics.median(bare), "ratio": ratio}


def _cpu_each(
    found: Bench, site: RunningSite, endpoint: Endpoint, path: str, seconds: float
) -> float:
    client, tally = Client(site.port, found.token), Tally()
    client.timed(endpoint, Tally(), path)
    before, end = found.cpu(site), time.perf_counter() + seconds
    while time.perf_counter() < end:
        client.timed(endpoint, tally, path)
    assert tally.seconds, f"{endpoint.name}: no good answer from {site.url}\n{site.log[-2000:]}"
    assert not tally.errors, endpoint.name
    return (found.cpu(site) - before) / len(tally.seconds) * 1000


def query_counts(found: Bench) -> dict[str, tuple[int, int]]:
    """Return the queries per request, ours and bare, by endpoint."""
    asked = [(e.method, e.path, e.body) for e in ENDPOINTS]
    bare = [(e.method, e.bare_path or e.path, e.body) for e in ENDPOINTS]
    counts = queries(found.site, found.token, asked), queries(found.bare, found.token, bare)
    return {e.name: (ours, least) for e, ours, least in zip(ENDPOINTS, *counts, strict=True)}


def report(
    tallies: dict[str, Tally],
    took: float,
    costs: dict[str, dict[str, float]],
    counts: dict[str, tuple[int, int]],
    limit: float,
) -> str:
    """Return the report as Markdown."""
    everything = [value for tally in tallies.values() for value in tally.seconds]
    errors = sum(tally.errors for tally in tallies.values())
    lines = [
        f"Mixed: {len(everything) / took:.0f} requests a second, {errors} errors in {took:.0f} s.",
        "",
        "| request | of 65 | p50 ms | p95 ms | p99 ms | errors "
        "| CPU ms | bare ms | × bare | queries | bare |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for endpoint in ENDPOINTS:
        tally, cost = tallies[endpoint.name], costs[endpoint.name]
        p50, p95, p99 = (f"{percentile(tally.seconds, share):.1f}" for share in (50, 95, 99))
        lines.append(
            f"| {endpoint.name} | {endpoint.share} | {p50} | {p95} | {p99} | {tally.errors} "
            f"| {cost['ours']:.2f} | {cost['bare']:.2f} | {cost['ratio']:.2f} "
            f"| {counts[endpoint.name][0]} | {counts[endpoint.name][1]} |"
        )
    return "\n".join([*lines, "", f"Rate-limit check: {limit:.2f} × one Redis round trip."])


def percentile(values: list[float], share: int) -> float:
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * share // 100)] * 1000


def machine() -> str:
    """Return a description of the machine."""
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    revision = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    load = os.getloadavg()[0]
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} processors shared with the clients, "
        f"load average before {load:.1f}, revision {revision}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="of measuring (default: 60)")
    parser.add_argument("--clients", type=int, default=8, help="at once, when mixed (default: 8)")
    parser.add_argument("--report", type=Path, help="file to write the report to, as Markdown")
    options = parser.parse_args()
    about = machine()
    with bench() as found:
        mixed(found.client, 2, options.clients)
        tallies, took = mixed(found.client, options.seconds / 2, options.clients)
        each = options.seconds / 2 / len(ENDPOINTS)
        costs = {endpoint.name: compared(found, endpoint, each) for endpoint in ENDPOINTS}
        counts = query_counts(found)
        limit = rate_limit_check(found.site)
    command = f"python benchmarks/load.py --seconds {options.seconds:.0f}"
    text = report(tallies, took, costs, counts, limit)
    print(text)
    if options.report:
        words = itertools.chain(["# Load", "", f"`{command} --clients {options.clients}`"], [""])
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text("\n".join([*words, about + ".", "", text, ""]))


if __name__ == "__main__":
    main()
