"""Run commands in parallel: prints a line for each, and the whole output of those that fail."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from importlib.util import find_spec

from myometrics_testing.commands.repository import EXAMPLE, ROOT, clean_environment


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command to run at the repository's root, or in ``folder``."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    folder: str = str(ROOT)


CHECKPOINT_KEY = "PRIVATE+KEY+tests.example/audit-log+14bee144+AQ" + 42 * "A"
"""A valid key that signs nothing of worth."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a job: exit code, output, and duration in seconds."""

    job: Job
    code: int
    output: str
    seconds: float


def example_job(name: str, *command: str) -> Job:
    """Return a job with the example's settings and opt-in apps, isolated from its database."""
    environment = clean_environment(
        AUDIT_CHECKPOINT_KEY=CHECKPOINT_KEY,
        AUDIT_LEGAL_HOLDS="true",
        AUDIT_PARTITIONS="true",
        AUDIT_STREAMS='{"siem": {"url": "https://siem.example/", "format": "json"}}',
        DEBUG="true",
        DATABASE_URL="sqlite://:memory:",
        IDENTITY_PROVIDERS='{"a": {"issuer": "https://a.example", "client_id": "a"}}',
        DJANGO_SETTINGS_MODULE="config.settings",
        PYTHONPATH=str(EXAMPLE),
        SCIM_PROVIDERS=json.dumps({"entra": {}} if find_spec("scim2_server") else {}),
    )
    return Job(name=name, command=command, environment=environment)


def run_jobs(jobs: Sequence[Job], at_once: int, *, captured: bool = True) -> Iterator[Outcome]:
    """Yield outcomes in the order of completion. Not ``captured``: jobs print to the terminal."""
    with ThreadPoolExecutor(at_once) as pool:
        for future in as_completed([pool.submit(run_job, job, captured=captured) for job in jobs]):
            yield future.result()


def run_job(job: Job, *, captured: bool = True) -> Outcome:
    """Run one job to completion."""
    start = time.monotonic()
    done = subprocess.run(
        job.command,
        cwd=job.folder,
        env=job.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if captured else None,
        stderr=subprocess.STDOUT if captured else None,
        text=True,
        errors="replace",
        check=False,
    )
    seconds = time.monotonic() - start
    return Outcome(job=job, code=done.returncode, output=done.stdout or "", seconds=seconds)


def print_outcome(outcome: Outcome, remark: str = "") -> None:
    """Print one line, preceded by the whole output of a failed job."""
    if outcome.code and outcome.output:
        print(f"\n===== {outcome.job.name} =====\n{outcome.output.rstrip()}\n")
    mark = "FAILED" if outcome.code else "ok"
    name = outcome.job.name
    print(f"{mark:7}{name:32}{outcome.seconds:7.1f} s  {remark}".rstrip(), flush=True)


def print_failures(outcomes: Iterable[Outcome]) -> None:
    """Print the names of the failed jobs last, so that they are easy to see."""
    failed = [outcome.job.name for outcome in outcomes if outcome.code]
    if failed:
        print("\nFailed: " + ", ".join(sorted(failed)))
