"""The section "Point-in-time recovery" of ``docs/operations/backup.md``, command by command.

Every block of the page runs as it stands there, but for the first, whose variables name places of
the test; so do the two lines that choose the back-up and the moment.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from running_site import PROJECT

from myometrics_testing.services.servers import (
    give_to_unprivileged_user,
    postgres_programs,
    server_user,
)

pytestmark = pytest.mark.long

PAGE = PROJECT.parent / "docs" / "operations" / "backup.md"


def blocks():
    """The shell commands of the section, block by block."""
    section = PAGE.read_text().partition("## Point-in-time recovery")[2]
    return re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


class Operator:
    """Runs the commands in one shell on the database server."""

    def __init__(self, server):
        self.server = server
        folder = Path(unquote(urlsplit(server.url).netloc.rpartition("@")[2]))
        self.backup = folder / "backup"
        self.backup.mkdir()
        give_to_unprivileged_user(self.backup)
        self.environment = {
            "PATH": f"{postgres_programs(folder)}:{os.environ['PATH']}",
            "PGHOST": str(folder),
            "PGUSER": "postgres",
            "PGDATA": str(folder / "data"),
            "BACKUP": str(self.backup),
        }

    def types(self, commands):
        done = subprocess.run(
            ["sh", "-euc", commands],
            cwd=self.backup,
            env=self.environment,
            user=server_user(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}"

    def asks(self, statement):
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


def test_recovery_restores_chosen_moment(postgresql_server):
    operator = Operator(postgresql_server)
    variables, archive, base_backup, recover, wait, finish = blocks()
    assert set(re.findall(r"export (\w+)=", variables)) == {"PGDATA", "BACKUP"}

    operator.types(archive)
    postgresql_server.stop()
    postgresql_server.start()
    operator.asks("CREATE TABLE entries (name text)")
    operator.types(base_backup)
    operator.asks("INSERT INTO entries VALUES ('wanted')")
    [(moment,)] = operator.asks("SELECT clock_timestamp()::text")
    operator.asks("INSERT INTO entries VALUES ('a mistake')")

    postgresql_server.stop()
    [base] = operator.backup.glob("base-*")
    recover = re.sub(r"base-[\d-]+", base.name, recover)
    operator.types(re.sub(r"(?<=MOMENT=').*(?=')", moment, recover))
    postgresql_server.start()
    operator.types(wait)
    assert operator.asks("SELECT name FROM entries") == [("wanted",)]

    operator.types(finish)
    postgresql_server.stop()
    postgresql_server.start()
    operator.asks("INSERT INTO entries VALUES ('after the recovery')")
    assert operator.asks("SHOW archive_mode") == [("on",)]
    assert operator.asks("SHOW restore_command") == [("",)]
