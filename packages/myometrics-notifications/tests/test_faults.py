"""Nothing is lost: real worker processes, a real broker, PostgreSQL and a mail server, all of
which fail while 500 uploads are completed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from myometrics_testing.smtp_server import OK
from myometrics_testing.waiting import wait_for

pytestmark = pytest.mark.any_database

EVENTS = 500
KILLS = 8
PROCESSES_PER_WORKER = 2
LIMIT_SECONDS = 900
"""Less than a minute and a half as a rule; on a machine under load it may take long."""
TESTS = Path(__file__).parent


class Worker:
    """A ``celery worker`` with children and beat of its own, as a process group."""

    def __init__(self, number, environment, folder):
        self.command = [
            *(sys.executable, "-m", "celery", "-A", "myometrics_testing.celery", "worker"),
            *("--pool=prefork", f"--concurrency={PROCESSES_PER_WORKER}", "--loglevel=ERROR"),
            *("--without-gossip", "--without-mingle", f"--hostname=w{number}@test"),
            *("--beat", f"--schedule={folder / f'beat{number}'}"),
        ]
        self.environment = environment
        self.log = (folder / f"worker{number}.log").open("ab")
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
        """Stop it gracefully: current tasks finish first."""
        self.process.terminate()
        self.process.wait(LIMIT_SECONDS)

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def environment(postgresql_server, redis_server, smtp):
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "fault_settings",
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
        "DATABASE_URL": postgresql_server.url,
        "REDIS_URL": redis_server.url,
        "SMTP_PORT": str(smtp.port),
    }


@pytest.fixture
def workers(environment, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "-v", "0"], env=environment, check=True
    )
    started = [Worker(number, environment, tmp_path) for number in range(2)]
    yield started
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()


def disturb_mail_server(smtp, over):
    """Refuse, hang, drop and go away by turns, with a quiet moment between, until ``over``."""
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


def disturb_broker(redis_server, over):
    for _ in range(2):
        if over.wait(6):
            return
        redis_server.stop()
        over.wait(3)
        redis_server.start()


def kill_workers(workers, smtp):
    """SIGKILL one of the workers, in the midst of deliveries as far as there are any."""
    for _ in range(KILLS):
        aim, latest = len(smtp.accepted) + random.randint(10, 40), time.monotonic() + 5
        while len(smtp.accepted) < aim and time.monotonic() < latest:
            time.sleep(0.002)
        victim = random.choice(workers)
        victim.kill()
        victim.start()


def states(url):
    with psycopg.connect(url) as connection:
        table = "myometrics_notifications_message"
        return dict(connection.execute(f"SELECT state, count(*) FROM {table} GROUP BY 1"))


def expire_claims(workers, url):
    """Expire all claims, which last longer than the test, while no worker runs."""
    for worker in workers:
        worker.end()
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE myometrics_notifications_message SET leased_until = now() - interval '1 second'"
            " WHERE leased_until IS NOT NULL"
        )
    for worker in workers:
        worker.start()


def test_500_events_survive_worker_broker_and_mail_failures(
    environment, workers, smtp, redis_server, postgresql_server, capsys
):
    began, over = time.monotonic(), threading.Event()
    producer = subprocess.Popen(
        [sys.executable, str(TESTS / "fault_producer.py"), str(EVENTS), "15"], env=environment
    )
    with ThreadPoolExecutor() as pool:
        troubles = [
            pool.submit(disturb_mail_server, smtp, over),
            pool.submit(disturb_broker, redis_server, over),
            pool.submit(kill_workers, workers, smtp),
        ]
        try:
            assert producer.wait(LIMIT_SECONDS) == 0
            for trouble in troubles:
                trouble.result(LIMIT_SECONDS)
            expire_claims(workers, postgresql_server.url)
            wait_for(
                lambda: states(postgresql_server.url) == {"sent": EVENTS},
                LIMIT_SECONDS,
                log=lambda: str(states(postgresql_server.url)),
            )
        finally:
            over.set()

    copies = Counter(str(sent["Message-ID"]) for sent in smtp.accepted)
    duplicates = sum(copies.values()) - len(copies)
    with capsys.disabled():
        print(
            f"\n{EVENTS} events, {KILLS} SIGKILLs of a worker, 2 broker stops, 7 mail-server "
            f"faults: {len(copies)} delivered, {EVENTS - len(copies)} missing, "
            f"{duplicates} duplicates, {time.monotonic() - began:.0f} s"
        )
    assert len(copies) == EVENTS
    assert duplicates <= KILLS * PROCESSES_PER_WORKER
