"""The test suites of this repository, and their pytest commands."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from myometrics_testing.commands.jobs import Job
from myometrics_testing.commands.repository import (
    EXAMPLE,
    ROOT,
    clean_environment,
    package_folders,
)
from myometrics_testing.programs import find_program, find_server_program
from myometrics_testing.services import OwnedServer

DATABASES = ("sqlite", "postgresql")
ASGI = "example-asgi"
PARTITIONED = "audit-partitioned"
CONTAINERS = "containers"
BROWSER = "browser"
BROWSER_PROGRAMS = (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",))
_PROGRAM_MARKER = re.compile(r'pytest\.mark\.program\("([\w-]+)"\)')
_LIBRARY_SKIP = re.compile(r'pytest\.importorskip\("(\w+)", reason="([^"]+)"\)')
NPM_SUITES = ("example-browser",)
"""Suites that also build the TypeScript client."""


class Part(Enum):
    """A subset of a folder's tests: the expression is for pytest's ``-m``."""

    USUAL = "not any_database and not long and not alone"
    ANY_DATABASE = "any_database and not long and not alone"
    LONG = "long and not alone"
    ALONE = "alone"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A part of ``folder``'s tests on one database; ``redis``: whether REDIS_URL is set.

    ``files``: a pattern, if not all of them; ``options``: further options of pytest.
    """

    name: str
    folder: Path
    database: str
    redis: bool = True
    part: Part = Part.USUAL
    files: str = ""
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.part is Part.USUAL:
            return f"{self.name} on {self.database}"
        return f"{self.name}, {self.part.name.lower().replace('_', ' ')}"


def all_suites() -> list[Suite]:
    """Return all suites, longest first, so that none is left running alone at the end."""
    usual = _suites_by_database()
    marked = [
        suite
        for part in (Part.LONG, Part.ANY_DATABASE, Part.ALONE)
        for suite in marked_suites(usual, part)
    ]
    others = [partitioned_suite(), asgi_suite(), container_suite()]
    return [*marked, *browser_suites(), *usual, *others]


def partitioned_suite() -> Suite:
    """Return the tests of audit that insert and erase, on a partitioned log."""
    return Suite(
        name=PARTITIONED,
        folder=package_folders()["audit"] / "tests",
        database="postgresql",
        options=("--partitioned",),
    )


def asgi_suite() -> Suite:
    """Return the contract tests through the ASGI handler."""
    return Suite(
        name=ASGI,
        folder=EXAMPLE / "tests",
        database="sqlite",
        redis=False,
        files="test_contract_*.py",
        options=("--asgi",),
    )


def container_suite() -> Suite:
    """Return the tests that build images; `dev test` runs them only on request."""
    return Suite(
        name=CONTAINERS,
        folder=ROOT / "testing" / "tests",
        database="sqlite",
        redis=False,
        part=Part.ANY_DATABASE,
        files="test_image.py",
        options=("--containers",),
    )


def _suites_by_database() -> list[Suite]:
    """Return every folder on its databases. The example on SQLite has no Redis, as by default."""
    suites = [
        Suite(name="testing", folder=ROOT / "testing" / "tests", database="sqlite"),
        Suite(name="example", folder=EXAMPLE / "tests", database="postgresql"),
        Suite(name="example", folder=EXAMPLE / "tests", database="sqlite", redis=False),
    ]
    for name, folder in package_folders().items():
        suites += [Suite(name=name, folder=folder / "tests", database=kind) for kind in DATABASES]
    return suites


def marked_suites(suites: Sequence[Suite], part: Part) -> list[Suite]:
    """Return one more suite for every folder that has tests with the marker of ``part``."""
    marker = f"pytest.mark.{part.name.lower()}"
    folders = {suite.name: suite.folder for suite in suites}
    return [
        Suite(name=name, folder=folder, database="sqlite", part=part)
        for name, folder in folders.items()
        if any(marker in file.read_text(encoding="utf-8") for file in folder.glob("test_*.py"))
    ]


def browser_suites() -> list[Suite]:
    """Return the tests in the folders ``tests/browser``, which drive a real browser."""
    folders = {**package_folders(), "example": EXAMPLE}
    return [
        Suite(name=f"{name}-browser", folder=folder / "tests" / BROWSER, database="sqlite")
        for name, folder in folders.items()
        if (folder / "tests" / BROWSER).exists()
    ]


def missing_programs(suite: Suite) -> list[str]:
    """Return the programs for ``suite`` that don't run here, each under its first name."""
    if suite not in browser_suites():
        return []
    needed = [*BROWSER_PROGRAMS, *([("npm",)] if suite.name in NPM_SUITES else [])]
    return [names[0] for names in needed if find_program(*names) is None]


def missing_server_programs(suite: Suite) -> list[str]:
    """Return the programs required by markers in ``suite`` that don't run here."""
    texts = (file.read_text(encoding="utf-8") for file in suite.folder.glob("test_*.py"))
    wanted = {name for text in texts for name in _PROGRAM_MARKER.findall(text)}
    return sorted(name for name in wanted if find_server_program(name) is None)


def files_without_libraries(suite: Suite) -> dict[str, str]:
    """Return the files of ``suite`` with tests that lack a library here, and their reasons."""
    found = {}
    for file in suite.folder.glob("test_*.py"):
        for library, reason in _LIBRARY_SKIP.findall(file.read_text(encoding="utf-8")):
            if find_spec(library) is None:
                found[file.name] = reason
    return found


@contextmanager
def servers(given: Mapping[str, str], suites: Sequence[Suite]) -> Iterator[dict[str, str]]:
    """Yield URLs by kind of server: ``given`` DATABASE_URL and REDIS_URL, else own servers."""
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
    """Return a job for ``suite`` with the servers at ``urls`` and the JUnit file ``report``."""
    variables = {}
    if suite.database == "postgresql":
        # Django creates and drops test_<name>: concurrent suites must not share it.
        own_name = f"/myometrics_{suite.name}"
        variables["DATABASE_URL"] = urlsplit(urls["postgresql"])._replace(path=own_name).geturl()
    if suite.redis:
        variables["REDIS_URL"] = urlsplit(urls["redis"])._replace(path=redis_database).geturl()
    paths = sorted(map(str, suite.folder.glob(suite.files))) if suite.files else [str(suite.folder)]
    command = [sys.executable, "-m", "pytest", *paths, f"--database={suite.database}"]
    command += suite.options
    chosen = [f"--ignore={suite.folder / BROWSER}", f"--junitxml={report}", "-m", suite.part.value]
    return Job(
        name=str(suite),
        command=[*command, "-q", *chosen, *options],
        environment=clean_environment(**variables),
    )
