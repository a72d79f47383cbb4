"""``dev lint`` and ``dev format``: all static checks."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from myometrics_testing.commands.docs import docs_job, documents_job
from myometrics_testing.commands.jobs import (
    Job,
    example_job,
    print_failures,
    print_outcome,
    run_job,
    run_jobs,
)
from myometrics_testing.commands.repository import EXAMPLE, clean_environment, package_folders

MODULE = (sys.executable, "-m")
MANAGE = (sys.executable, str(EXAMPLE / "manage.py"))
DRY_MIGRATIONS = ("makemigrations", "--check", "--dry-run")


def main(arguments: Sequence[str]) -> int:
    """Check format, lint, import contracts, types, migrations, API schema and documentation."""
    parser = argparse.ArgumentParser(prog="dev lint", description=main.__doc__)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help="those whose name starts so")
    wanted = tuple(parser.parse_args(arguments).checks)
    with tempfile.TemporaryDirectory(prefix="mm-site-") as site:
        jobs = [job for job in all_checks(site) if not wanted or job.name.startswith(wanted)]
        outcomes = []
        for outcome in run_jobs(jobs, os.cpu_count() or 1, captured=len(jobs) > 1):
            print_outcome(outcome)
            outcomes.append(outcome)
    print_failures(outcomes)
    return int(any(outcome.code for outcome in outcomes))


def format_code(arguments: Sequence[str]) -> int:
    """Format the code, fix what ruff can fix, and write the documents' parts from the code."""
    fixed = run_job(_tool("fix", "ruff", "check", "--fix-only", *arguments), captured=False)
    formatted = run_job(_tool("format", "ruff", "format", *arguments), captured=False)
    written = run_job(documents_job(), captured=False)
    return fixed.code or formatted.code or written.code


def all_checks(site: str) -> list[Job]:
    """Return all checks, slowest first; the documentation is built into the folder ``site``."""
    schema = ("spectacular", "--validate", "--fail-on-warn", "--file", os.devnull)
    return [
        example_job("types", *MODULE, "mypy"),
        docs_job("build", "--strict", "--quiet", "--site-dir", site),
        documents_job("--check"),
        example_job("schema", *MANAGE, *schema),
        example_job("system checks", *MANAGE, "check"),
        example_job("migrations", *MANAGE, *DRY_MIGRATIONS),
        *(_migrations_alone(name, str(folder)) for name, folder in package_folders().items()),
        Job(name="imports", command=[str(Path(sys.executable).with_name("lint-imports"))]),
        _tool("lock", "myometrics_testing.commands.lock", "--check"),
        _tool("lint", "ruff", "check"),
        _tool("format", "ruff", "format", "--check"),
    ]


def _tool(name: str, *words: str) -> Job:
    return Job(name=name, command=[*MODULE, *words])


def _migrations_alone(name: str, folder: str) -> Job:
    environment = clean_environment(
        DATABASE_URL="sqlite://:memory:",
        DJANGO_SETTINGS_MODULE=f"{name}_test_settings",
        PYTHONPATH=f"{folder}/tests",
    )
    command = [*MODULE, "django", *DRY_MIGRATIONS]
    return Job(name=f"migrations of {name}", command=command, environment=environment)
