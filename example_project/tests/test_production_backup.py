"""Back-up and restore as ``docs/operations/backup.md`` describes them, with PostgreSQL's own tools.

The tools are those beside the test server; on a machine of yours they come with PostgreSQL.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from running_site import RunningSite

from myometrics_testing.services.servers import postgres_programs

pytestmark = pytest.mark.any_database


@pytest.fixture
def site(tmp_path, postgresql_server):
    running = RunningSite(tmp_path, postgresql_server.url, None)
    # Demonstration data need DEBUG; the keys are those of a production site all the same.
    running.environment |= {"AUDIT_ANCHOR_FILE": str(tmp_path / "anchors"), "DEBUG": "true"}
    running.manage("migrate", "--verbosity=0")
    running.manage("seed_demo", "--days=20")
    running.manage("audit_seal")
    return running


class Tools:
    """``pg_dump``, ``createdb`` and ``pg_restore`` on the site's server."""

    def __init__(self, site):
        self.programs = postgres_programs(site.folder)
        self.url = site.environment["DATABASE_URL"]
        self.folder = site.folder

    def dump(self, name) -> Path:
        file = self.folder / name
        self.run("pg_dump", "--format=custom", f"--file={file}", self.url)
        return file

    def restore(self, file, database) -> str:
        """The URL of the new database ``database``, filled from ``file``."""
        self.run("psql", "--quiet", "--command", f"CREATE DATABASE {database}", self.url)
        url = self.url.rpartition("/")[0] + f"/{database}"
        self.run("pg_restore", "--no-owner", "--exit-on-error", f"--dbname={url}", file)
        return url

    def run(self, program, *arguments):
        done = subprocess.run(
            [self.programs / program, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def count(site):
    code = (
        "from myometrics_audit.models import AuditLog; from myometrics_analytics.models import"
        " Upload; print(AuditLog.objects.count(), Upload.objects.count())"
    )
    return site.manage("shell", "-c", code).splitlines()[-1]


def write_one_more_and_seal(site):
    code = (
        "from myometrics_audit import audit;"
        "audit.record(actor=None, action='a', resource=('t', '1'))"
    )
    site.manage("shell", "-c", code)
    site.manage("audit_seal")


def test_what_was_dumped_is_there_after_the_restore_and_its_evidence_holds(site):
    tools, before = Tools(site), count(site)
    assert "No problems." in site.manage("audit_verify")
    site.environment["DATABASE_URL"] = tools.restore(tools.dump("site.dump"), "restored")
    assert count(site) == before
    assert "No problems." in site.manage("audit_verify")
    site.manage("analytics_check")
    # It goes on from there: guards, sequences and the chain of seals are whole.
    write_one_more_and_seal(site)
    assert "No problems." in site.manage("audit_verify")


def test_the_restore_of_an_older_dump_is_detected_by_the_anchor(site):
    tools = Tools(site)
    older = tools.dump("older.dump")
    write_one_more_and_seal(site)
    assert "No problems." in site.manage("audit_verify")
    site.environment["DATABASE_URL"] = tools.restore(older, "rolled_back")
    with pytest.raises(AssertionError, match="1 PROBLEMS"):
        site.manage("audit_verify")
