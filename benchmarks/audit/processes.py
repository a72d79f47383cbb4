"""CPU time of a server and its dependencies, from the kernel's accounting."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil


def descendants(pid: int) -> list[int]:
    """Return a process and all of its descendants."""
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        found.append(current)
        for task in Path(f"/proc/{current}/task").glob("*/children"):
            waiting += [int(child) for child in task.read_text().split()]
    return found


def cpu_seconds(roots: list[int]) -> float:
    """Return the CPU seconds used so far by the process trees of ``roots``, with all threads.

    Processes that have ended, such as PostgreSQL's parallel workers, are in their parent's account.
    """
    total, ended = 0, 0
    for root in roots:
        for pid in descendants(root):
            ended += _ended_children_ticks(pid)
            for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    total += int(thread.read_text().split()[0])
                except OSError:
                    continue
    return total / 1e9 + ended / os.sysconf("SC_CLK_TCK")


def _ended_children_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[13]) + int(fields[14])


def database_pid() -> int:
    """Return the process id of this site's PostgreSQL server; it runs on this machine."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return psutil.Process(cursor.fetchone()[0]).ppid()


def redis_pid() -> int:
    """Return the process id of the server at ``REDIS_URL``; it runs on this machine."""
    import redis

    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        return int(client.info("server")["process_id"])


@contextmanager
def gunicorn(site: str, workers: int = 1) -> Iterator[tuple[str, int]]:
    """Serve the benchmark site on a free port; yields host:port and the process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "BENCHMARK_SITE": site}
    command: list[Any] = [sys.executable, "-m", "gunicorn", "benchmarks.audit.site.wsgi"]
    command += ["-b", f"127.0.0.1:{port}", "-w", str(workers), "--keep-alive", "60"]
    command += ["-k", "gthread", "--threads", "1", "--log-level", "warning"]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        _await(port)
        yield f"127.0.0.1:{port}", process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _await(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("gunicorn did not start")
