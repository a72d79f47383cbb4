"""The schedule of periodic tasks is code: two beats on one site are safe."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from celery import Celery
from running_site import ADMIN, PROJECT, RunningSite

from config.celery import app
from config.optional.beat import StatelessScheduler
from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import wait_for

pytestmark = pytest.mark.any_database


@pytest.fixture(scope="module")
def servers():
    with OwnedServer("postgresql") as postgresql, OwnedServer("redis") as redis:
        yield postgresql, redis


@pytest.fixture(scope="module")
def site(tmp_path_factory, servers):
    postgresql, redis = servers
    running = RunningSite(tmp_path_factory.mktemp("site"), postgresql.url, redis.url)
    running.environment |= {
        "DJANGO_SETTINGS_MODULE": "frequent_jobs_settings",
        "PYTHONPATH": str(PROJECT / "tests"),
    }
    try:
        running.start()
        running.make_administrator()
        yield running
    finally:
        running.stop()


def rows(site, query):
    with psycopg.connect(site.environment["DATABASE_URL"]) as connection:
        return connection.execute(query).fetchall()


def sent_by(site, task):
    """How many times beat processes have sent ``task``."""
    return len(re.findall(rf"Sending due task {re.escape(task)} ", site.log))


def test_two_beats_on_one_data_dir_run_each_job_once(site):
    first = site.processes["beat"]
    site.run("beat")
    site.processes["first beat"] = first
    look = "myometrics_core.run_jobs"
    wait_for(lambda: site.log.count("beat: Starting...") == 2, log=lambda: site.log)
    wait_for(lambda: sent_by(site, look) >= 4, log=lambda: site.log)
    # Nothing is stored: neither in the data directory nor in the working directory.
    assert not [*site.folder.glob("celerybeat*"), *PROJECT.glob("celerybeat*")]

    access = site.sign_in()
    body = {"action": "upload_completed", "resource_type": "upload", "resource_id": "scan-1"}
    assert site.request(access, "POST", "/audit-logs/", body).status_code == 201
    site.mail_to(ADMIN)
    unsealed = "SELECT count(*) FROM myometrics_audit_leaf WHERE seal_number IS NULL"
    wait_for(lambda: rows(site, unsealed) == [(0,)], log=lambda: site.log)
    before = sent_by(site, look)
    wait_for(lambda: sent_by(site, look) >= before + 4, log=lambda: site.log)
    assert len(site.mails_to(ADMIN)) == 1
    assert "No problems." in site.manage("audit_verify")
    site.manage("analytics_check")
    assert [first.poll(), site.processes["beat"].poll()] == [None, None]
    assert "Traceback" not in site.log


@pytest.fixture
def scheduler():
    found = StatelessScheduler(app, lazy=True)
    found.setup_schedule()
    return found


def test_clock_moved_back_delays_no_task(scheduler, monkeypatch):
    monkeypatch.setattr(scheduler, "apply_entry", lambda entry, **options: None)
    entries = scheduler.schedule.values()
    for entry in entries:
        entry.last_run_at = datetime.now(timezone.utc) + timedelta(hours=1)
    scheduler.tick()
    assert all(entry.last_run_at <= datetime.now(timezone.utc) for entry in entries)


def test_heartbeat_stops_without_broker(redis_server, tmp_path, monkeypatch):
    heartbeat = tmp_path / "heartbeat"
    monkeypatch.setattr("config.optional.beat.HEARTBEAT", heartbeat)
    options = {"socket_timeout": 5, "max_retries": 0, "retry_on_timeout": False}
    with Celery(broker=redis_server.url, set_as_current=False) as celery:
        celery.conf.update(
            beat_schedule={"sweep": {"task": "sweep", "schedule": timedelta(hours=1)}},
            broker_transport_options=options,
            task_publish_retry=False,
        )
        scheduler = StatelessScheduler(celery, lazy=True)
        scheduler.setup_schedule()

        def beats():
            """Whether sending the task, and waiting for the next one, touch the file."""
            heartbeat.unlink(missing_ok=True)
            scheduler.schedule["sweep"].last_run_at -= timedelta(hours=2)
            scheduler.populate_heap()
            scheduler.tick()
            scheduler.tick()
            return heartbeat.exists()

        assert beats()
        redis_server.stop()
        assert not beats()
        redis_server.start()
        assert beats()
