"""A request with the access table enabled, compared with the same request without it.

    python benchmarks/access_table.py [--turns 7] [--requests 600]

Two sites under gunicorn, with rate limits and access log, share one PostgreSQL and one Redis; one
of them writes accesses to the table. They alternate requests for the signed-in user's profile. CPU
is that of web processes, PostgreSQL and Redis together, including the writes to the table: each
turn waits until they are done. Latency is measured at the client.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "example_project" / "tests")]

import psycopg  # noqa: E402
from running_site import RunningSite  # noqa: E402

from benchmarks.audit.processes import cpu_seconds  # noqa: E402
from benchmarks.load import ENDPOINTS, Client, Tally, machine  # noqa: E402
from myometrics_testing.services import OwnedServer  # noqa: E402

SIGN_IN, PROFILE = ENDPOINTS[0], ENDPOINTS[1]
SETTLED = 2.5
"""Seconds after which the last access of a turn has been written."""


@contextmanager
def sites() -> Iterator[tuple[dict[str, RunningSite], list[int], str]]:
    """Yield the sites without and with the table, the server process ids, and a common token."""
    servers = [OwnedServer("postgresql"), OwnedServer("redis")]
    with tempfile.TemporaryDirectory() as folder:
        without, table = (
            RunningSite(Path(folder), servers[0].url, servers[1].url) for _ in range(2)
        )
        try:
            token = _start(without, table)
            yield {"without": without, "table": table}, [s._owner.pid for s in servers], token
            _assert_written(servers[0].url)
        finally:
            for closing in (without.stop, table.stop, servers[1].close, servers[0].close):
                closing()


def _start(without: RunningSite, table: RunningSite) -> str:
    common = {
        **{f"RATE_LIMIT_{name}": "1000000/minute" for name in ("AUTH", "API")},
        "SECRET_KEY": table.environment["SECRET_KEY"],
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    without.environment |= common
    table.environment |= {**common, "ACCESS_TABLE": "true"}
    table.manage("migrate", "--verbosity=0")
    table.environment["DEBUG"] = "true"
    table.manage("seed_demo")
    table.environment["DEBUG"] = "false"
    for site in (without, table):
        site.run("web")
        site.wait_until_ready()
    status, body = Client(table.port).send(SIGN_IN)
    assert status == 200, body
    return str(json.loads(body)["access"])


def _assert_written(url: str) -> None:
    with psycopg.connect(url) as database:
        rows = database.execute("SELECT COUNT(*) FROM myometrics_access_table_access").fetchone()
    assert rows is not None
    assert rows[0] > 0
    print(f"{rows[0]} accesses are in the table.")


def turn(site: RunningSite, servers: list[int], token: str, requests: int) -> tuple[float, float]:
    """Return CPU milliseconds and median latency in milliseconds per request."""
    client, tally = Client(site.port, token), Tally()
    client.timed(PROFILE, Tally())
    watched = [site.processes["web"].pid, *servers]
    before = cpu_seconds(watched)
    for _ in range(requests):
        client.timed(PROFILE, tally)
    time.sleep(SETTLED)
    cpu = cpu_seconds(watched) - before
    assert not tally.errors
    return cpu / requests * 1000, statistics.median(tally.seconds) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=7, help="of each site (default: 7)")
    parser.add_argument("--requests", type=int, default=600, help="of a turn (default: 600)")
    options = parser.parse_args()
    print(machine())
    found: dict[str, list[tuple[float, float]]] = {"without": [], "table": []}
    with sites() as (running, servers, token):
        for site in running.values():
            turn(site, servers, token, options.requests)
        for _ in range(options.turns):
            for name, site in running.items():
                found[name].append(turn(site, servers, token, options.requests))
    for place, measure in enumerate(("CPU", "latency")):
        pairs = [(on[place], off[place]) for on, off in zip(*reversed(found.values()), strict=True)]
        ratios = sorted(on / off for on, off in pairs)
        on, off = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(
            f"{measure}: {on:.2f} ms with the table, {off:.2f} ms without: "
            f"{statistics.median(ratios):.3f} × (turns {ratios[0]:.3f} to {ratios[-1]:.3f})"
        )


if __name__ == "__main__":
    main()
