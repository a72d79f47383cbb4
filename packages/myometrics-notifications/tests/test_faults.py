"""Nothing is lost while worker processes, broker, mail server and storage fail."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from myometrics_testing.smtp_server import OK
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.long

UPLOADS = 500
EXPORTS = 100
PRODUCTION_SECONDS = 15
KILLS = 8
LIMIT_SECONDS = 900
"""A test usually takes a minute; on a busy machine it may take much longer."""
TESTS = Path(__file__).parent
CLAIMS = "UPDATE myometrics_core_job SET claimed_until = run_at WHERE claimed_until IS NOT NULL"
JOBS = "SELECT count(*) FROM myometrics_core_job WHERE kind IN ('myometrics_notifications.deliver',"
JOBS += " 'myometrics_notifications.export')"


class Worker:
    """A worker with its child processes, as a process group."""

    def __init__(self, number, site):
        self.command = site.worker_command(number)
        self.environment = site.environment
        self.log = (site.folder / f"worker{number}.log").open("ab")
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            self.command,
            env=self.environment,
            cwd=TESTS,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def end(self):
        """Stop it gracefully: current jobs finish first."""
        self.process.terminate()
        self.process.wait(LIMIT_SECONDS)

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Site:
    """A site whose jobs are run by processes of ``jobs_run``, in an environment without Celery."""

    runner = "none"
    processes_per_worker = 1

    def __init__(self, folder, url, smtp):
        self.folder, self.url, self.smtp, self.media = folder, url, smtp, folder / "media"
        self.media.mkdir()
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "fault_settings",
            "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
            "DATABASE_URL": url,
            "SMTP_PORT": str(smtp.port),
            "MEDIA_ROOT": str(self.media),
            "JOB_RUNNER": self.runner,
        }
        command = [sys.executable, str(TESTS / "fault_process.py"), "migrate", "-v", "0"]
        subprocess.run(command, env={**self.environment, "JOB_RUNNER": "none"}, check=True)
        self.workers = [Worker(number, self) for number in range(2)]

    def worker_command(self, number):
        return [sys.executable, str(TESTS / "fault_process.py"), "jobs_run", "--interval=0.2"]

    def produce(self, what, count):
        command = [sys.executable, str(TESTS / "fault_producer.py"), what]
        return subprocess.Popen(
            [*command, str(count), str(PRODUCTION_SECONDS)], env=self.environment
        )

    def execute(self, sql):
        if self.url.startswith("sqlite"):
            path = self.url.removeprefix("sqlite:///")
            with closing(
                sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
            ) as connection:
                return connection.execute(sql).fetchall()
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def states(self, table):
        sql = f"SELECT state, count(*) FROM myometrics_notifications_{table} GROUP BY 1"
        return dict(self.execute(sql))

    def expire_claims(self):
        """Expire all claims, which last longer than the test, while no worker runs."""
        for worker in self.workers:
            worker.end()
        self.execute(CLAIMS)
        for worker in self.workers:
            worker.start()

    def disturb_mail_server(self, over):
        """Refuse, hang, drop and stop in turn, with a pause between, until ``over``."""
        smtp = self.smtp
        faults = [
            lambda: setattr(smtp, "at_recipient", "451 Later"),
            lambda: setattr(smtp, "at_data", "hang"),
            lambda: setattr(smtp, "at_recipient", "drop"),
            lambda: setattr(smtp, "at_data", "452 Full"),
            smtp.stop,
            lambda: setattr(smtp, "at_recipient", "hang"),
            lambda: setattr(smtp, "at_data", "drop"),
        ]
        for fault in faults:
            if over.wait(2.5):
                return
            fault()
            over.wait(1.2)
            smtp.at_recipient = smtp.at_data = OK
            smtp.start()

    def disturb_storage(self, over):
        for _ in range(3):
            if over.wait(3):
                return
            (self.folder / "fail").touch()
            over.wait(1)
            (self.folder / "fail").unlink()

    def kill_workers(self, over):
        """SIGKILL one of the workers, if possible while mails are delivered."""
        for _ in range(KILLS):
            aim, latest = len(self.smtp.accepted) + random.randint(10, 40), time.monotonic() + 3
            while len(self.smtp.accepted) < aim and time.monotonic() < latest:
                time.sleep(0.002)
            victim = random.choice(self.workers)
            victim.kill()
            victim.start()

    @property
    def disturbances(self):
        return [self.disturb_mail_server, self.disturb_storage, self.kill_workers]

    def survive(self, what, count, is_done):
        """Produce ``count`` of ``what`` amid all disturbances, and wait until all is done."""
        over = threading.Event()
        producer = self.produce(what, count)
        with ThreadPoolExecutor() as pool:
            disturbances = [pool.submit(disturb, over) for disturb in self.disturbances]
            try:
                assert producer.wait(LIMIT_SECONDS) == 0
                for disturbance in disturbances:
                    disturbance.result(LIMIT_SECONDS)
                self.expire_claims()
                wait_for(is_done, LIMIT_SECONDS, log=lambda: str(self.states("message")))
            finally:
                over.set()
        wait_for(lambda: self.execute(JOBS) == [(0,)], LIMIT_SECONDS)


class CelerySite(Site):
    """A site whose jobs are run by workers of Celery, each with child processes and a beat."""

    runner = "celery"
    processes_per_worker = 2

    def __init__(self, folder, url, smtp, redis_server):
        self.redis_server = redis_server
        os.environ["REDIS_URL"] = redis_server.url
        try:
            super().__init__(folder, url, smtp)
        finally:
            del os.environ["REDIS_URL"]

    def worker_command(self, number):
        return [
            *(sys.executable, "-m", "celery", "-A", "myometrics_testing.celery", "worker"),
            *("--pool=prefork", f"--concurrency={self.processes_per_worker}", "--loglevel=ERROR"),
            *("--without-gossip", "--without-mingle", f"--hostname=w{number}@test"),
            *("--beat", f"--schedule={self.folder / f'beat{number}'}"),
        ]

    def disturb_broker(self, over):
        for _ in range(2):
            if over.wait(6):
                return
            self.redis_server.stop()
            over.wait(3)
            self.redis_server.start()

    @property
    def disturbances(self):
        return [*super().disturbances, self.disturb_broker]


@pytest.fixture(params=["celery", "jobs_run", "jobs_run on SQLite"])
def site(request, smtp, tmp_path):
    if request.param == "jobs_run on SQLite":
        site = Site(tmp_path, f"sqlite:///{tmp_path / 'db.sqlite3'}", smtp)
    else:
        url = request.getfixturevalue("postgresql_server").url
        if request.param == "celery":
            site = CelerySite(tmp_path, url, smtp, request.getfixturevalue("redis_server"))
        else:
            site = Site(tmp_path, url, smtp)
    yield site
    for worker in site.workers:
        if worker.process.poll() is None:
            worker.kill()


def report(capsys, site, count, began):
    copies = Counter(str(sent["Message-ID"]) for sent in site.smtp.accepted)
    duplicates = sum(copies.values()) - len(copies)
    with capsys.disabled():
        print(
            f"\n{count} mails amid {KILLS} SIGKILLs and other failures: {count - len(copies)} "
            f"missing, {duplicates} duplicates, {time.monotonic() - began:.0f} s"
        )
    assert len(copies) == count
    assert duplicates <= KILLS * site.processes_per_worker


def test_uploads_are_mailed_despite_failures(site, capsys):
    began = time.monotonic()
    site.survive("uploads", UPLOADS, lambda: site.states("message") == {"sent": UPLOADS})
    report(capsys, site, UPLOADS, began)


def test_exports_are_written_and_mailed_despite_failures(site, capsys):
    began = time.monotonic()
    site.survive("exports", EXPORTS, lambda: site.states("message") == {"sent": EXPORTS})
    report(capsys, site, EXPORTS, began)
    assert site.states("exportfile") == {"ready": EXPORTS}
    names = {
        name
        for (name,) in site.execute("SELECT storage_name FROM myometrics_notifications_exportfile")
    }
    files = [path for path in site.media.rglob("*") if path.is_file()]
    assert {str(path.relative_to(site.media)) for path in files} == names
    assert all(path.read_text().endswith("export,,complete,true\n") for path in files)
