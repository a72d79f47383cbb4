"""Back-up and restore with the commands of ``docs/operations/backup.md``.

The tools are those of the test server.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from running_site import PROJECT, UNITS, RunningSite

from myometrics_testing.services.servers import postgres_programs
from myometrics_testing.walkthrough import blocks_in, section

pytestmark = pytest.mark.any_database

PAGE = (PROJECT.parent / "docs/operations/backup.md").read_text()


@pytest.fixture
def site(tmp_path, postgresql_server):
    running = RunningSite(tmp_path, postgresql_server.url, None)
    # Demo data needs DEBUG; the keys are those of a production site.
    running.environment |= {"AUDIT_ANCHOR_FILE": str(tmp_path / "anchors"), "DEBUG": "true"}
    running.manage("migrate", "--verbosity=0")
    running.manage("seed_demo", "--days=20")
    running.manage("audit_seal")
    return running


class Operator:
    """Runs the commands of the page's sections, each time in a new shell."""

    def __init__(self, site):
        self.site = site
        self.programs = postgres_programs(site.folder)
        self.live = site.environment["DATABASE_URL"]
        self.environment_file = site.folder / "environment"
        self.bin = site.folder / "bin"
        self.bin.mkdir()
        self.release = site.folder / "release"
        self._write_environment_file()
        self._install()

    def follow(self, *headings, restored="site_restored", more=""):
        """The end of a shell in which the sections ``headings`` were followed, then ``more``."""
        page = section(PAGE, "Prepare a shell") + "".join(section(PAGE, name) for name in headings)
        commands = [command for block in blocks_in(page) for command, _ in block.commands()]
        server = self.live.rpartition("/")[0]
        script = "\n".join([*commands, more])
        script = script.replace("site_restored", restored)
        script = script.replace("postgresql://site@db.clinic.example/site\n", f"{self.live}\n")
        script = script.replace("postgresql://site@db.clinic.example", server)
        return subprocess.run(
            ["bash", "-euc", script],
            cwd=self.site.folder,
            env={
                "PATH": os.pathsep.join([str(self.bin), str(self.programs), os.environ["PATH"]]),
                "ENVIRONMENT_FILE": str(self.environment_file),
                "DATA_DIR": str(self.site.folder),
                "RELEASE": str(self.release),
            },
            input="any password\n",
            capture_output=True,
            text=True,
            check=False,
        )

    def url(self, database):
        return f"{self.live.rpartition('/')[0]}/{database}"

    def _write_environment_file(self):
        """An environment with a Redis and a broker that commands must not use."""
        unreachable = dict.fromkeys(("REDIS_URL", "CELERY_BROKER_URL"), "redis://127.0.0.1:1/0")
        variables = {
            name: self.site.environment[name]
            for name in ("SECRET_KEY", "DATABASE_URL", "AUDIT_ANCHOR_FILE", "EMAIL_BACKEND")
        }
        lines = [f"{name}={value}\n" for name, value in {**variables, **unreachable}.items()]
        self.environment_file.write_text("".join(lines))

    def _install(self):
        """A release in a folder of its own, and ``myometrics-manage`` but for its user."""
        python = self.release / "venv/bin/python"
        python.parent.mkdir(parents=True)
        (self.release / "example_project").symlink_to(PROJECT)
        change_of_user = "runuser --user myometrics -- "
        text = (UNITS / "myometrics-manage").read_text()
        assert change_of_user in text
        manage = self.bin / "myometrics-manage"
        manage.write_text(text.replace(change_of_user, ""))
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        for program in (python, manage):
            program.chmod(0o755)


def count(site):
    code = (
        "from myometrics_audit.models import AuditLog; from myometrics_analytics.models import"
        " Upload; print(AuditLog.objects.count(), Upload.objects.count())"
    )
    return site.manage("shell", "-c", code).splitlines()[-1]


def contents(url, programs):
    """The database as a dump without the key that PostgreSQL makes for each."""
    command = [programs / "pg_dump", "--restrict-key=same", f"--dbname={url}"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def write_one_more_and_seal(site):
    code = (
        "from myometrics_audit import audit;"
        "audit.record(actor=None, action='a', resource=('t', '1'))"
    )
    site.manage("shell", "-c", code)
    site.manage("audit_seal")


RESTORE = "Restore into a new database"


def test_restored_database_is_complete_and_verifies(site):
    operator, before = Operator(site), count(site)
    done = operator.follow("Back up")
    assert done.returncode == 0, done.stderr
    done = operator.follow(RESTORE)
    assert done.returncode == 0, done.stderr
    assert "No problems." in done.stdout
    assert "UPDATE" in done.stdout
    site.environment["DATABASE_URL"] = operator.url("site_restored")
    assert count(site) == before
    # The restored site works: guards, sequences and the chain of seals are intact.
    write_one_more_and_seal(site)
    assert "No problems." in site.manage("audit_verify")


def test_restore_spares_live_database_and_anchors_detect_old_dump(site):
    operator = Operator(site)
    assert operator.follow("Back up").returncode == 0
    write_one_more_and_seal(site)
    before = contents(operator.live, operator.programs)
    # An existing database name is rejected before anything is restored.
    done = operator.follow(RESTORE, restored=operator.live.rpartition("/")[2])
    assert done.returncode != 0
    assert "already exists" in done.stderr
    # A restore into it is rejected, too, and writes nothing.
    (restore,) = re.findall(r"^\$ (pg_restore .*--dbname.*)$", PAGE, re.MULTILINE)
    over = restore.replace("RESTORED", "LIVE").replace('"$DUMP"', "site-*.dump")
    done = operator.follow(more=over)
    assert done.returncode != 0
    assert "already exists" in done.stderr
    assert contents(operator.live, operator.programs) == before
    # Restore this older dump into another database; the anchors show that a seal is missing.
    done = operator.follow(RESTORE)
    assert done.returncode != 0
    assert "1 PROBLEMS" in done.stdout + done.stderr
    assert contents(operator.live, operator.programs) == before


def test_nightly_backup_dumps_and_removes_old_dumps(site):
    operator = Operator(site)
    folder, newest = site.folder / "dumps", site.folder / "last-backup"
    folder.mkdir()
    outdated, recent = folder / "site-old.dump", folder / "site-recent.dump"
    for path, days in ((outdated, 40), (recent, 20)):
        path.touch()
        os.utime(path, (time.time() - days * 86_400,) * 2)
    block = blocks_in(section(PAGE, "Every night"))[0]
    settings = block.text.replace("/mnt/backup", str(folder))
    settings = settings.replace("/var/lib/myometrics/last-backup", str(newest))
    done = run_nightly(operator, settings)
    assert done.returncode == 0, done.stderr
    assert not outdated.exists()
    (dump,) = set(folder.iterdir()) - {recent}
    listed = [operator.programs / "pg_restore", "--list", dump]
    assert b"myometrics_audit" in subprocess.run(listed, capture_output=True, check=True).stdout
    assert dump.stat().st_mode & 0o077 == 0
    newest.unlink()
    # A failed dump leaves no file, and exits with an error.
    done = run_nightly(operator, settings, PGDATABASE="missing")
    assert done.returncode != 0
    assert set(folder.iterdir()) == {recent, dump}
    assert not newest.exists()


def run_nightly(operator, settings, **variables):
    """The program of the nightly unit, with the documented settings and those of the test."""
    (command,) = re.findall("ExecStart=(.*)", (UNITS / "myometrics-backup.service").read_text())
    live = conninfo_to_dict(operator.live)
    given = {
        "PGHOST": live["host"],
        "PGUSER": live["user"],
        "PGDATABASE": live["dbname"],
        **variables,
    }
    if "port" in live:
        given["PGPORT"] = live["port"]
    path = operator.site.folder / "backup-settings"
    path.write_text(settings + "".join(f"{name}='{value}'\n" for name, value in given.items()))
    return subprocess.run(
        [UNITS / Path(command).name],
        env={
            "PATH": os.pathsep.join([str(operator.programs), os.environ["PATH"]]),
            "BACKUP_SETTINGS": str(path),
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["LIVE", "RESTORED"])
def test_commands_without_database_name_are_rejected(name):
    commands = [command for block in blocks_in(PAGE) for command, _ in block.commands()]
    with_name = [command for command in commands if f"${{{name}:?}}" in command]
    assert with_name
    for command in with_name:
        done = subprocess.run(
            ["bash", "-c", command], env={}, capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        assert "parameter null or not set" in done.stderr
