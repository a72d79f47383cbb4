"""The pytest plugin: selects the test database, and provides real servers as fixtures."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis
from django.apps import apps
from django.conf import settings as django_settings
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection

from myometrics_testing.concurrency import run_concurrently as _run_concurrently
from myometrics_testing.programs import find_server_program
from myometrics_testing.services import OwnedServer
from myometrics_testing.smtp_server import SmtpServer
from myometrics_testing.waiting import PATIENCE

DATABASES = ("sqlite", "postgresql")
_LEFT_OUT = pytest.StashKey[list[str]]()
MARKERS = (
    "long: as any_database, and a file of them takes a minute or more: only `dev test --all` and "
    ".ci/run run it",
    "any_database: brings its own servers and processes, and means the same whatever database the "
    "other tests use: `dev test` runs it once",
    "alone: measures time or memory: `dev test` runs it once, last, with nothing beside it",
    "program(name): needs this server program; where it is missing the test is left out, and named "
    "at the end, unless CI is set",
    "celery: needs Celery, an extra of the packages; left out where it is not installed",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("myometrics").addoption(
        "--database",
        choices=DATABASES,
        help="Database to test on, unless DATABASE_URL names one "
        "(default: the environment's TEST_DATABASE, else sqlite)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Set the variables that settings read, before pytest-django. Workers of xdist inherit them."""
    os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "x" * 50)
    wanted = early_config.known_args_namespace.database
    given = os.environ.get("DATABASE_URL")
    if given is None:
        _provide_database(wanted or os.environ.get("TEST_DATABASE", "sqlite"), early_config)
    elif wanted not in (None, _vendor(given)):
        raise pytest.UsageError(f"--database={wanted}, but DATABASE_URL is {_vendor(given)}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keep a SQLite test database in a file, for any settings module: threads share files."""
    # Both measure time. With CI set, Hypothesis also generates the same examples each time.
    hypothesis.settings.register_profile(
        "any_speed",
        hypothesis.settings(),
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("any_speed")
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if django_settings.configured:
        for database in django_settings.DATABASES.values():
            if database["ENGINE"].endswith("sqlite3") and database["NAME"] != ":memory:":
                database.setdefault("TEST", {})
                database["TEST"]["NAME"] = (
                    database["TEST"].get("NAME") or f"{database['NAME']}.test"
                )


def pytest_report_header() -> str:
    return f"database: {_vendor(os.environ['DATABASE_URL'])}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that need Celery without it, and those whose program is not installed.

    In CI tests without their program run and fail.
    """
    if not find_spec("celery"):
        without = [item for item in items if item.get_closest_marker("celery")]
        items[:] = [item for item in items if item not in without]
        config.hook.pytest_deselected(items=without)
    lacking = {item: missing_program(item) for item in items}
    left_out = [] if os.environ.get("CI") else [item for item in items if lacking[item]]
    if left_out:
        items[:] = [item for item in items if not lacking[item]]
        config.hook.pytest_deselected(items=left_out)
        config.stash[_LEFT_OUT] = sorted({str(lacking[item]) for item in left_out})


def missing_program(item: pytest.Item) -> str | None:
    """Return the program that ``item`` needs and that is missing or does not run."""
    names = (marker.args[0] for marker in item.iter_markers("program"))
    return next((name for name in names if find_server_program(name) is None), None)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for program in config.stash.get(_LEFT_OUT, []):
        terminalreporter.write_line(
            f"Left out: what needs {program}, because it can't be found or run."
        )


def _provide_database(kind: str, config: pytest.Config) -> None:
    if kind not in DATABASES:
        raise pytest.UsageError(f"TEST_DATABASE is {kind!r}; it can be {' or '.join(DATABASES)}")
    start = _start_postgresql if kind == "postgresql" else _make_sqlite_folder
    os.environ["DATABASE_URL"] = start(config)
    config.add_cleanup(_unset_database)


def _unset_database() -> None:
    os.environ.pop("DATABASE_URL", None)


def _start_postgresql(config: pytest.Config) -> str:
    server = OwnedServer("postgresql")
    config.add_cleanup(server.close)
    return server.url


def _make_sqlite_folder(config: pytest.Config) -> str:
    folder = tempfile.TemporaryDirectory(prefix="mm-", ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    return f"sqlite:///{Path(folder.name) / 'db.sqlite3'}"


def _vendor(url: str) -> str:
    return "sqlite" if url.startswith("sqlite") else "postgresql"


@pytest.fixture(scope="session")
def database_vendor() -> str:
    """``"sqlite"`` or ``"postgresql"``: the vendor of the test database."""
    return str(connection.vendor)


@pytest.fixture(autouse=True)
def _no_random_purge() -> Iterator[None]:
    """Rate limits in the database delete expired rows at random; tests compare statements."""
    # Not the fixture monkeypatch: a test's own patches would then outlast its database.
    with pytest.MonkeyPatch.context() as patch:
        if apps.ready and apps.is_installed("myometrics_core.rate_limits"):
            patch.setattr("myometrics_core.rate_limits.storage.PURGE_INTERVAL", sys.maxsize)
        yield


@pytest.fixture
def keep_connections() -> Iterator[None]:
    """Keep the signals of requests from closing the connections, as Django's test client does.

    A test that sends these signals itself needs it: a connection is open or not depending on the
    tests before.
    """
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture(scope="session")
def _session_redis_url() -> Iterator[str]:
    if given := os.environ.get("REDIS_URL"):
        yield given
        return
    with OwnedServer("redis") as server:
        yield server.url


@pytest.fixture
def redis_url(_session_redis_url: str) -> str:
    """The URL of a real, empty Redis database: REDIS_URL's, else that of an own server."""
    with redis.Redis.from_url(_session_redis_url) as client:
        client.flushdb()
    return _session_redis_url


@pytest.fixture
def redis_server() -> Iterator[OwnedServer]:
    """A Redis server for this test only, with stop, start, freeze and thaw."""
    with OwnedServer("redis") as server:
        yield server


@pytest.fixture
def postgresql_server() -> Iterator[OwnedServer]:
    """A PostgreSQL server for this test only, with stop, start, freeze and thaw."""
    with OwnedServer("postgresql") as server:
        yield server


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    """A listening mail server for this test only."""
    server = SmtpServer().start()
    yield server
    server.stop()


@pytest.fixture
def mail_server(smtp: SmtpServer, settings: Any) -> SmtpServer:
    """``smtp``, configured as Django's mail server."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", smtp.port
    return smtp


@pytest.fixture
def run_concurrently() -> Callable[..., list[Any]]:
    """:func:`myometrics_testing.concurrency.run_concurrently`."""
    return _run_concurrently


@pytest.fixture
def long_dependency_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep slow machines from failing health probes of dependencies that are up."""
    monkeypatch.setattr("myometrics_core.health.report._Runner.timeout", PATIENCE)
    monkeypatch.setattr("myometrics_core.health.probes.TIMEOUT_SECONDS", PATIENCE)
