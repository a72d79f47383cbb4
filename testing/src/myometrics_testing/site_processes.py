"""Processes of a site with an SQLite database of its own, run by a script of a package's tests.

The script and the test share a folder: the script leaves lines in it with :func:`note`, and stops
in :func:`wait_for_go` until the test has called :meth:`SiteProcesses.go`.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from myometrics_testing.waiting import PATIENCE, wait_for

FOLDER = "SITE_FOLDER"
CELERY = ("celery", "kombu", "billiard", "vine", "amqp")


class SiteProcesses:
    """A context manager: ``script`` is run with the arguments of ``manage.py``."""

    def __init__(self, script: Path, folder: Path, **environment: str) -> None:
        self.script, self.folder = script, folder
        self.environment = {
            **os.environ,
            "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
            "PYTHONPATH": os.pathsep.join([str(script.parent), os.environ.get("PYTHONPATH", "")]),
            FOLDER: str(folder),
            **environment,
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> SiteProcesses:
        self.run("migrate", "-v", "0")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()

    def run(self, *arguments: str) -> None:
        """Run a command; raise ``CalledProcessError`` if it fails."""
        command = [sys.executable, str(self.script), *arguments]
        subprocess.run(command, env=self.environment, check=True, timeout=PATIENCE)

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start ``jobs_run``."""
        return self.start("jobs_run", "--interval=0.1")

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command."""
        command = [sys.executable, str(self.script), *arguments]
        process = subprocess.Popen(command, env=self.environment, start_new_session=True)
        self._started.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a process, and end the leases of its jobs."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.execute("UPDATE myometrics_core_job SET claimed_until = '2000-01-01 00:00:00'")

    def execute(self, sql: str, *parameters: object) -> list[Any]:
        """Execute a statement in the site's database; return the rows."""
        path = self.folder / "db.sqlite3"
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection, connection:
            return connection.execute(sql, parameters).fetchall()

    def go(self) -> None:
        """Let the processes in :func:`wait_for_go` continue."""
        (self.folder / "go").touch()

    @property
    def notes(self) -> list[str]:
        """The lines that the processes left."""
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []


def hide_celery() -> None:
    """Make Celery impossible to import in this process, as if it were not installed."""
    for name in CELERY:
        sys.modules[name] = None  # type: ignore[assignment]


def note(line: str) -> None:
    """Leave a line for the test."""
    with (Path(os.environ[FOLDER]) / "notes").open("a") as notes:
        notes.write(line + "\n")


def wait_for_go() -> None:
    """Wait until the test calls :meth:`SiteProcesses.go`."""
    wait_for((Path(os.environ[FOLDER]) / "go").exists)
