"""The data of the composed site move by ``dumpdata`` and ``loaddata``, as ``backup.md`` says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from running_site import PROJECT, RunningSite

from myometrics_testing.services import OwnedServer
from myometrics_testing.services.servers import postgres_programs
from myometrics_testing.walkthrough import Walkthrough, blocks_in, section

pytestmark = pytest.mark.any_database

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
        "EMBEDDED_WORKER": "false",
        "LOG_LEVEL": "ERROR",
        "PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}",
    }


@pytest.fixture(scope="module")
def urls(folder, server):
    """Vendor → URLs of two empty databases: one to fill, one to copy for each load."""
    found = {"sqlite": {}, "postgresql": {}}
    for name in ("source", "empty"):
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        found["sqlite"][name] = f"sqlite:///{folder}/{name}.sqlite3"
        found["postgresql"][name] = database_url(server, name)
    return found


@pytest.fixture(scope="module")
def filled(folder, environment, urls):
    """Vendor → folder with the dumps and answers of a filled site."""
    folders = {vendor: folder / f"from_{vendor}" for vendor in urls}
    running = []
    for vendor, into in folders.items():
        into.mkdir()
        running.append(start(environment, urls[vendor]["source"], "fill", into))
    for process in running:
        finish(process)
    return folders


def test_dumps_in_every_format_load_on_both_databases(filled, environment, urls):
    loads = [
        start(environment, urls["sqlite"]["empty"], "load", filled["sqlite"]),
        start(environment, urls["postgresql"]["empty"], "load", *filled.values()),
    ]
    for process in loads:
        finish(process)


def test_the_documented_move_from_sqlite_to_postgresql(filled, environment, urls, server, tmp_path):
    (tmp_path / "manage.py").symlink_to(PROJECT / "manage.py")
    connection = psycopg.conninfo.conninfo_to_dict(server.url)
    programs = postgres_programs(tmp_path)
    variables = environment | {
        "DATABASE_URL": urls["sqlite"]["source"],
        "PGHOST": connection["host"],
        "PGUSER": connection["user"],
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    walk = Walkthrough(tmp_path, programs, variables)
    walk.follow(blocks_in(section(BACKUP.read_text(), "Move to another database")))


def database_url(server, name):
    """The URL of another database on ``server``."""
    base, _, query = server.url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


def start(environment, url, *arguments):
    """A process of ``moved_site.py`` at work."""
    return subprocess.Popen(
        [sys.executable, PROJECT / "tests" / "moved_site.py", *arguments],
        cwd=PROJECT,
        env={**environment, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    """Wait until it has succeeded."""
    printed, _ = process.communicate()
    assert process.returncode == 0, printed[-5000:]
