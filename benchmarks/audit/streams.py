"""Lag of a stream at a steady rate, and delivery while the receiver and the sender are killed.

``python -m benchmarks.audit.streams [--rate 100] [--seconds 120] [--events 100000] [--kills 20]``
runs a site on PostgreSQL with ``jobs_run`` in a process of its own:

- *lag*: entries are written at a steady rate, and a local HTTP server notes when each arrives;
- *faults*: all entries are written as fast as possible and sent over TLS to Debian's rsyslog, which
  is killed with SIGKILL again and again, and so is the sender. Prints lost, reordered and duplicate
  messages.

``--seconds 0`` and ``--events 0`` leave one of them out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import quantiles
from threading import Thread
from typing import Any

import psycopg
from django.utils.dateparse import parse_datetime

from myometrics_testing.rsyslog import Rsyslog
from myometrics_testing.services import OwnedServer
from myometrics_testing.site_processes import SiteProcesses

SCRIPT = Path(__file__).parents[2] / "packages/myometrics-audit/tests/stream_process.py"
POSITION = "SELECT seal_number, entry_id, is_connected FROM myometrics_audit_streams_stream"
LEAVES = (
    "SELECT seal_number, entry_id FROM myometrics_audit_leaf WHERE seal_number IS NOT NULL "
    "ORDER BY seal_number, entry_id"
)
PATIENCE = 3600.0


class Site(SiteProcesses):
    """The processes of a site on PostgreSQL."""

    def execute(self, sql: str, *parameters: object) -> list[Any]:
        with psycopg.connect(self.environment["DATABASE_URL"], autocommit=True) as connection:
            cursor = connection.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def start_writer(self, count: int, rate: int = 0) -> subprocess.Popen[bytes]:
        """Start a process that writes entries; with a rate per second it leaves them unsealed."""
        command = [sys.executable, str(SCRIPT), "write", str(count), str(rate)]
        return subprocess.Popen(command, env=self.environment)


@contextmanager
def site(**stream: Any) -> Iterator[Site]:
    """Run a site with a stream."""
    with OwnedServer("postgresql") as server, tempfile.TemporaryDirectory() as folder:
        processes = Site(SCRIPT, Path(folder), STREAM=json.dumps(stream), DATABASE_URL=server.url)
        with processes:
            processes.run("audit_stream", "list")
            yield processes


def measure_lag(rate: int, seconds: int) -> None:
    """Print the time from an entry to its arrival."""
    lags: list[float] = []

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            now = time.time()
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for line in body.splitlines():
                written = parse_datetime(json.loads(line)["timestamp"])
                lags.append(now - (written.timestamp() if written else 0.0))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    count = rate * seconds
    with site(url=url, format="json") as processes:
        processes.start_worker()
        writer = processes.start_writer(count, rate)
        writer.wait()
        wait_until(lambda: len(lags) >= count)
    server.shutdown()
    shares = quantiles(lags, n=100)
    print(
        f"lag: {count} events at {rate}/s: median {shares[49]:.1f} s, p95 {shares[94]:.1f} s, "
        f"max {max(lags):.1f} s, {len(lags) - count} duplicates",
        flush=True,
    )


def measure_faults(events: int, kills: int) -> None:
    """Print the numbers of lost, reordered and duplicate messages."""
    with tempfile.TemporaryDirectory() as folder:
        receiver = Rsyslog(Path(folder))
        receiver.start()
        options = {
            "url": f"syslog+tls://127.0.0.1:{receiver.port}",
            "format": "rfc5424",
            "ca_file": f"{folder}/ca.pem",
            "cert_file": f"{folder}/client.pem",
            "key_file": f"{folder}/client.key",
            "server_name": "siem.example",
        }
        started = time.monotonic()
        with site(**options) as processes:
            worker = processes.start_worker()
            writer = processes.start_writer(events)
            for number in range(kills):
                enough = events * number // kills
                wait_until(lambda enough=enough: len(set(ids_of(receiver))) > enough)
                if number % 4 == 3:
                    processes.kill(worker)
                    worker = processes.start_worker()
                receiver.kill()
                receiver.start()
            writer.wait()
            leaves = processes.execute(LEAVES)
            wait_until(lambda: processes.execute(POSITION)[0] == (*leaves[-1], False))
            expected = [entry_id for _, entry_id in leaves]
            wait_until(lambda: ids_of(receiver)[-1:] == expected[-1:], seconds=30)
        received = ids_of(receiver)
        receiver.kill()
    first = list(dict.fromkeys(received))
    print(
        f"faults: {len(expected)} events, rsyslog killed {kills} times, sender "
        f"{kills // 4} times: {len(set(expected) - set(received))} lost, order kept: "
        f"{first == expected}, {len(received) - len(first)} duplicates, "
        f"{time.monotonic() - started:.0f} s",
        flush=True,
    )


def ids_of(receiver: Rsyslog) -> list[int]:
    """Return the ids of the entries that rsyslog has written."""
    found = []
    for line in receiver.lines():
        _, mark, rest = line.partition('{"id":')
        found.append(int(rest.partition(",")[0]) if mark else -1)
    return found


def wait_until(condition: Any, seconds: float = PATIENCE) -> None:
    """Wait for a condition, at most so long."""
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.2)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    if options.seconds:
        measure_lag(options.rate, options.seconds)
    if options.events:
        measure_faults(options.events, options.kills)


if __name__ == "__main__":
    main()
