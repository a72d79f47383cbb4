"""The test suites of this repository, and the pytest command of each."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from myometrics_testing.commands.jobs import Job
from myometrics_testing.commands.repository import (
    EXAMPLE,
    ROOT,
    clean_environment,
    package_folders,
)
from myometrics_testing.services import OwnedServer

DATABASES = ("sqlite", "postgresql")
BROWSER = "browser"
BROWSER_PROGRAMS = (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",))


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The tests in ``folder`` on one database; ``redis``: whether they see a REDIS_URL."""

    name: str
    folder: Path
    database: str
    redis: bool = True

    def __str__(self) -> str:
        return f"{self.name} on {self.database}"


def all_suites() -> list[Suite]:
    """The longest first. The example's SQLite run has no Redis, as on a bare machine."""
    suites = [
        Suite(name="testing", folder=ROOT / "testing" / "tests", database="sqlite"),
        Suite(name="example", folder=EXAMPLE / "tests", database="postgresql"),
        Suite(name="example", folder=EXAMPLE / "tests", database="sqlite", redis=False),
    ]
    for name, folder in package_folders().items():
        suites += [Suite(name=name, folder=folder / "tests", database=kind) for kind in DATABASES]
    return [*suites, *browser_suites()]


def browser_suites() -> list[Suite]:
    """The tests in the folders ``tests/browser``: they drive a real browser."""
    folders = {**package_folders(), "example": EXAMPLE}
    return [
        Suite(name=f"{name}-browser", folder=folder / "tests" / BROWSER, database="sqlite")
        for name, folder in folders.items()
        if (folder / "tests" / BROWSER).exists()
    ]


def missing_browser_programs() -> list[str]:
    """What browser tests need and this machine hasn't got, each under its first name."""
    return [names[0] for names in BROWSER_PROGRAMS if not any(map(shutil.which, names))]


@contextmanager
def servers(given: Mapping[str, str], suites: Sequence[Suite]) -> Iterator[dict[str, str]]:
    """URLs by kind of server: ``given`` DATABASE_URL and REDIS_URL, else servers of our own."""
    with ExitStack() as stack:
        urls = {}
        if given.get("DATABASE_URL", "").startswith("postgres"):
            urls["postgresql"] = given["DATABASE_URL"]
        if "REDIS_URL" in given:
            urls["redis"] = given["REDIS_URL"]
        for kind in _kinds_needed(suites) - set(urls):
            server = OwnedServer(kind)
            stack.callback(server.close)
            urls[kind] = server.url
        yield urls


def _kinds_needed(suites: Sequence[Suite]) -> set[str]:
    kinds = {"redis" for suite in suites if suite.redis}
    return kinds | {suite.database for suite in suites} - {"sqlite"}


def pytest_job(
    suite: Suite, urls: Mapping[str, str], redis_database: str, report: Path, options: Sequence[str]
) -> Job:
    """Run ``suite`` with the servers at ``urls``, reporting to the JUnit file ``report``."""
    variables = {}
    if suite.database == "postgresql":
        # Django makes and drops test_<name>; suites that run at once must not share it.
        own_name = f"/myometrics_{suite.name}"
        variables["DATABASE_URL"] = urlsplit(urls["postgresql"])._replace(path=own_name).geturl()
    if suite.redis:
        variables["REDIS_URL"] = urlsplit(urls["redis"])._replace(path=redis_database).geturl()
    command = [sys.executable, "-m", "pytest", str(suite.folder), f"--database={suite.database}"]
    chosen = [f"--ignore={suite.folder / BROWSER}", f"--junitxml={report}", *options]
    return Job(
        name=str(suite),
        command=[*command, "-q", *chosen],
        environment=clean_environment(**variables),
    )
