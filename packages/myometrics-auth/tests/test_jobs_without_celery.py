"""Reset mails of a site without Celery, also if a worker is killed while it sends."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from myometrics_testing.waiting import PATIENCE, wait_for

TESTS = Path(__file__).parent
EMAIL = "doctor@clinic.example"

pytestmark = pytest.mark.any_database


class Site:
    def __init__(self, folder):
        self.folder = folder
        self.workers = []
        self.environment = {
            **os.environ,
            "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
            "MAIL_FOLDER": str(folder),
            "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
        }

    def run(self, *arguments):
        command = [sys.executable, str(TESTS / "mail_process.py"), *arguments]
        subprocess.run(command, env=self.environment, check=True, timeout=PATIENCE)

    def start_worker(self):
        command = [sys.executable, str(TESTS / "mail_process.py"), "jobs_run", "--interval=0.1"]
        worker = subprocess.Popen(command, env=self.environment, start_new_session=True)
        self.workers.append(worker)
        return worker

    def execute(self, sql):
        with sqlite3.connect(self.folder / "db.sqlite3", timeout=PATIENCE) as connection:
            return connection.execute(sql).fetchall()

    @property
    def pending(self):
        sql = "SELECT attempts FROM myometrics_core_job WHERE kind LIKE '%send_password_reset'"
        return self.execute(sql)

    @property
    def notes(self):
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.run("migrate", "-v", "0")
    site.run("request", EMAIL)
    yield site
    for worker in site.workers:
        if worker.poll() is None:
            worker.kill()
            worker.wait()


def test_jobs_run_sends_the_mail(site):
    (site.folder / "go").touch()
    site.run("jobs_run", "--once")
    assert site.notes[1:] == [f"sent to {EMAIL}"]
    assert site.pending == []


def test_mail_of_a_killed_worker_is_sent_by_another(site):
    first = site.start_worker()
    wait_for(lambda: site.notes)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert site.pending == [(1,)]
    (site.folder / "go").touch()
    site.execute("UPDATE myometrics_core_job SET claimed_until = '2000-01-01 00:00:00'")
    site.start_worker()
    wait_for(lambda: not site.pending)
    begin, begin_again, sent = site.notes
    assert begin == begin_again
    assert sent == f"sent to {EMAIL}"
