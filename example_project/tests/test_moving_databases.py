"""Moving data with ``dumpdata`` and ``loaddata``, as in ``backup.md``."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from running_site import PROJECT, RunningSite

from myometrics_testing.services import OwnedServer
from myometrics_testing.services.servers import postgres_programs
from myometrics_testing.walkthrough import Walkthrough, blocks_in, section

pytestmark = pytest.mark.long

BACKUP = PROJECT.parent / "docs" / "operations" / "backup.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("moved")


@pytest.fixture(scope="module")
def server():
    with OwnedServer("postgresql") as owned:
        yield owned


@pytest.fixture(scope="module")
def environment(folder):
    """Variables of one site with databases that change; DATABASE_URL is added."""
    site = RunningSite(folder, "", None)
    return site.environment | {
        "ALLOWED_HOSTS": "testserver",
        "DATABASE_POOL_SIZE": "0",
        "EMAIL_BACKEND": "django.core.mail.backends.locmem.EmailBackend",
        "JOB_RUNNER": "none",
        "LOG_LEVEL": "ERROR",
        "PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}",
    }


@pytest.fixture(scope="module")
def moved(folder, environment, server):
    """URL of a filled SQLite site; vendor → problems when loading its dumps there."""
    outcomes = {}
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE source")
    from_sqlite, from_postgresql = folder / "from_sqlite", folder / "from_postgresql"
    from_sqlite.mkdir()
    from_postgresql.mkdir()
    sqlite, postgresql = f"sqlite:///{folder}/source.sqlite3", database_url(server, "source")
    with (
        running_process(environment, sqlite, from_sqlite) as first,
        running_process(environment, postgresql, from_postgresql, from_sqlite) as second,
    ):
        for name, process in (("sqlite", first), ("postgresql", second)):
            printed, _ = process.communicate()
            outcomes[name] = printed if process.returncode else ""
    return sqlite, outcomes


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql"])
def test_dump_in_every_format_loads_without_loss(moved, vendor):
    _, outcomes = moved
    assert not outcomes[vendor]


def test_documented_move_from_sqlite_to_postgresql_works(moved, environment, server, tmp_path):
    (tmp_path / "manage.py").symlink_to(PROJECT / "manage.py")
    connection = psycopg.conninfo.conninfo_to_dict(server.url)
    programs = postgres_programs(tmp_path)
    variables = environment | {
        "HOME": str(tmp_path),
        "DATABASE_URL": moved[0],
        "PGHOST": connection["host"],
        "PGUSER": connection["user"],
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), "/usr/bin:/bin"]),
    }
    walk = Walkthrough(tmp_path, programs, variables)
    walk.follow(blocks_in(section(BACKUP.read_text(), "Move to another database")))


def database_url(server, name):
    """The URL of another database on ``server``."""
    base, _, query = server.url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


@contextmanager
def running_process(environment, url, *folders):
    """A process of ``moved_site.py``, killed at the end if necessary."""
    process = subprocess.Popen(
        [sys.executable, PROJECT / "tests" / "moved_site.py", *folders],
        cwd=PROJECT,
        env={**environment, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
