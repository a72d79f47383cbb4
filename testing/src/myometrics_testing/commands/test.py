"""``dev test``: every suite on each of its databases."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from myometrics_testing.commands.jobs import (
    Job,
    Outcome,
    print_failures,
    print_outcome,
    run_jobs,
)
from myometrics_testing.commands.matrix import missing_pythons
from myometrics_testing.commands.suites import (
    ASGI,
    CONTAINERS,
    DATABASES,
    PARTITIONED,
    Part,
    Suite,
    all_suites,
    files_without_libraries,
    missing_programs,
    missing_server_programs,
    pytest_job,
    servers,
)
from myometrics_testing.commands.tally import Tally, read_tally


def main(arguments: Sequence[str]) -> int:
    """Run all tests: each package alone and the example, on SQLite and on PostgreSQL."""
    own, for_pytest = split_at_dashes(arguments)
    options = _parse(own)
    suites, notes = chosen_suites(options.suites, options.database, everything=options.all)
    print(*notes, sep="\n", end="\n" if notes else "", flush=True)
    return run_suites(suites, for_pytest, options.jobs, notes)


def chosen_suites(
    names: Collection[str] = (), database: str | None = None, *, everything: bool = False
) -> tuple[list[Suite], list[str]]:
    """Return the suites of ``names`` on ``database``, and a sentence about each omission.

    Without names: all suites whose programs are installed, except the container suite; the command
    needs only Python. A named suite always runs, and fails if a program is missing. ``everything``
    adds the long tests, the ASGI suite and the one on partitions.
    """
    left_out = {CONTAINERS} if everything else {ASGI, CONTAINERS, PARTITIONED}
    wanted = names or {suite.name for suite in all_suites()} - left_out
    asked = [
        suite
        for suite in all_suites()
        if suite.name in wanted and database in (None, suite.database)
        if everything or suite.part is not Part.LONG
    ]
    lacking = {} if names else {suite: missing_programs(suite) for suite in asked}
    chosen = [suite for suite in asked if not lacking.get(suite)]
    notes = [
        f"Left out: {suite.name}, because {' and '.join(missing)} can't be found or run."
        for suite, missing in lacking.items()
        if missing
    ]
    if not everything:
        notes.append("Left out: tests that take minutes; python3 dev test --all runs them.")
    notes += _notes_on_programs(chosen) + _notes_on_libraries(chosen) + _notes_on_pythons(chosen)
    return chosen, notes


def _notes_on_programs(chosen: Collection[Suite]) -> list[str]:
    """Return notes on missing server programs of single tests; in CI these tests fail."""
    if os.environ.get("CI"):
        return []
    lacking = {(suite.name, name) for suite in chosen for name in missing_server_programs(suite)}
    return [
        f"Left out: the tests of {suite} that need {program}, which can't be found or run."
        for suite, program in sorted(lacking)
    ]


def _notes_on_libraries(chosen: Collection[Suite]) -> list[str]:
    """Return notes on tests whose library is not for this Python, and so is missing in CI too."""
    lacking = {
        (suite.name, file, reason)
        for suite in chosen
        for file, reason in files_without_libraries(suite).items()
    }
    return [
        f"Left out: tests of {suite} in {file}: {reason}."
        for suite, file, reason in sorted(lacking)
    ]


def _notes_on_pythons(suites: Collection[Suite]) -> list[str]:
    """Return notes on missing Pythons for the tests in testing/; in CI they are required."""
    if os.environ.get("CI") or not any(suite.name == "testing" for suite in suites):
        return []
    return [
        f"Left out: embedding on Python {version}, because no python{version} can be found or "
        f"run (pyenv install {version})."
        for version in missing_pythons()
    ]


def split_at_dashes(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split at the first ``--``."""
    words = list(arguments)
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="dev test",
        usage="dev test [SUITE ...] [--all] [--containers] [--database DATABASE] [--jobs N] "
        "[-- PYTEST OPTIONS]",
        description=main.__doc__,
        epilog="PostgreSQL and Redis are those of DATABASE_URL and REDIS_URL where these are set "
        "(test databases are made and dropped; that Redis database is emptied), else servers "
        "of our own for the time of the run. Example: dev test audit -- -x -k page",
    )
    names = sorted({suite.name for suite in all_suites()})
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(names)}")
    parser.add_argument("--all", action="store_true", help="with the tests that take minutes")
    parser.add_argument(
        "--containers", action="store_true", help="build and run the image instead; needs buildah"
    )
    parser.add_argument("--database", choices=DATABASES, help="this one only")
    parser.add_argument(
        "--jobs", type=int, default=_jobs(), help="at a time (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.suites) - set(names):
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if options.containers:
        options.suites = [CONTAINERS]
    return options


def _jobs() -> int:
    """Return the number of concurrent suites: on an external Redis one, since each empties it.

    Otherwise one more than there are processors, since some suites mostly wait for servers.
    """
    return 1 if "REDIS_URL" in os.environ else min((os.cpu_count() or 1) + 1, 5)


def run_suites(
    suites: Sequence[Suite], options: Sequence[str], at_once: int, notes: Sequence[str] = ()
) -> int:
    """Run pytest for each suite, and print the results; returns 0 if nothing failed.

    The last lines are the omissions (``notes``) and the sum.
    """
    with ExitStack() as stack:
        reports = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mm-reports-")))
        urls = stack.enter_context(servers(os.environ, suites))
        jobs = {
            suite: pytest_job(
                suite, urls, _redis_database(number), _report(reports, str(suite)), options
            )
            for number, suite in enumerate(suites)
        }
        outcomes = (_lenient(outcome, options) for outcome in run_in_turn(jobs, at_once))
        return _print_all(outcomes, reports, notes)


def run_in_turn(jobs: Mapping[Suite, Job], at_once: int) -> Iterator[Outcome]:
    """Yield outcomes by completion; suites that measure run last, one at a time."""
    beside = [job for suite, job in jobs.items() if suite.part is not Part.ALONE]
    alone = [job for suite, job in jobs.items() if suite.part is Part.ALONE]
    captured = len(jobs) > 1
    yield from run_jobs(beside, at_once, captured=captured)
    yield from run_jobs(alone, 1, captured=captured)


def _redis_database(number: int) -> str:
    """Return the path of the Redis URL: one database per suite, unless the server is external."""
    given = os.environ.get("REDIS_URL")
    return urlsplit(given).path if given else f"/{number}"


def _report(folder: Path, name: str) -> Path:
    return folder / f"{name}.xml"


def _lenient(outcome: Outcome, options: Sequence[str]) -> Outcome:
    """Accept a suite without matching tests if options such as ``-k`` are given."""
    if options and outcome.code == pytest.ExitCode.NO_TESTS_COLLECTED:
        return replace(outcome, code=0)
    return outcome


def _print_all(outcomes: Iterable[Outcome], reports: Path, notes: Sequence[str]) -> int:
    ended, total = [], Tally()
    for outcome in outcomes:
        tally = read_tally(_report(reports, outcome.job.name), outcome.code)
        print_outcome(outcome, str(tally))
        ended.append(outcome)
        total += tally
    print_failures(ended)
    print(*notes, total, sep="\n")
    return int(total.failed > 0)
