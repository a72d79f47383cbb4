"""What runs jobs: processes of ``jobs_run``, threads of the server, Celery, Django's tasks."""

import threading
from functools import cache
from pathlib import Path

import django
import pytest
from celery import Celery, current_app
from django.core.management import CommandError, call_command
from django.core.signals import request_started
from django.db import connection, transaction

from myometrics_core.checks import check_sqlite_transactions
from myometrics_core.jobs import (
    Job,
    celery_runner,
    enqueue,
    enqueue_many,
    runners,
    thread_runner,
)
from myometrics_core.jobs.loop import JobLoop
from myometrics_testing.site_processes import SiteProcesses
from myometrics_testing.waiting import PATIENCE, wait_for

SCRIPT = Path(__file__).with_name("jobs_process.py")


@pytest.fixture
def site(tmp_path):
    with SiteProcesses(SCRIPT, tmp_path) as site:
        yield site


def enqueue_in(site, kind, key=""):
    site.execute(
        "INSERT INTO myometrics_core_job (kind, key, payload, state, run_at, attempts, "
        "run_again, last_error, request_id, created_at) VALUES (?, ?, '{}', 'pending', "
        "'2000-01-01 00:00:00', 0, 0, '', '', '2000-01-01 00:00:00')",
        kind,
        key,
    )


@pytest.mark.any_database
def test_jobs_run_takes_over_the_job_of_a_killed_process(site):
    enqueue_in(site, "tests.slow")
    worker = site.start_worker()
    wait_for(lambda: site.notes == ["begin"])
    site.kill(worker)
    site.go()
    site.start_worker()
    wait_for(lambda: site.notes == ["begin", "begin", "end"])
    wait_for(lambda: not site.execute("SELECT 1 FROM myometrics_core_job WHERE kind LIKE 'tests%'"))


@pytest.mark.any_database
def test_jobs_run_finishes_its_jobs_when_terminated(site):
    enqueue_in(site, "tests.slow")
    worker = site.start_worker()
    wait_for(lambda: site.notes == ["begin"])
    worker.terminate()
    site.go()
    assert worker.wait(PATIENCE) == 0
    assert site.notes == ["begin", "end"]
    assert not site.execute("SELECT 1 FROM myometrics_core_job WHERE kind = 'tests.slow'")


@pytest.mark.any_database
def test_jobs_run_runs_other_kinds_beside_a_slow_job(site):
    enqueue_in(site, "tests.slow")
    site.start_worker()
    wait_for(lambda: site.notes == ["begin"])
    enqueue_in(site, "tests.quick", "1")
    wait_for(lambda: site.notes == ["begin", "quick 1"])


@pytest.mark.any_database
def test_jobs_run_once_runs_what_is_due_and_returns(site):
    for number in range(3):
        enqueue_in(site, "tests.quick", str(number))
    site.run("jobs_run", "--once", "--kind", "tests.quick")
    assert sorted(site.notes) == ["quick 0", "quick 1", "quick 2"]


def test_jobs_run_names_the_kinds_if_one_is_unknown(kind):
    with pytest.raises(CommandError, match=r"Kinds: tests\.note"):
        call_command("jobs_run", "--once", "--kind", "tests.nothing")


@pytest.mark.django_db(transaction=True)
def test_loop_runs_a_job_when_woken_and_stops(kind):
    loop = JobLoop(threads=1, interval=3600)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        enqueue(kind.name, key="7")
        loop.wake()
        wait_for(lambda: kind.keys == ["7"] and not Job.objects.exists())
    finally:
        loop.stop()
        thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.usefixtures("keep_connections")
def test_server_starts_no_threads_in_a_test_environment(kind):
    request_started.send(sender=None)
    assert thread_runner._loops == {}


@pytest.mark.usefixtures("keep_connections")
def test_server_starts_threads_once_at_its_first_request(kind, monkeypatch):
    started = []
    monkeypatch.setattr(thread_runner, "_loops", {})
    monkeypatch.setattr(thread_runner, "_is_test", lambda: False)
    monkeypatch.setattr(JobLoop, "run", lambda loop: started.extend([loop]))
    for _ in range(3):
        request_started.send(sender=None)
    wait_for(lambda: started)
    assert len(started) == 1


@pytest.mark.usefixtures("keep_connections")
@pytest.mark.parametrize("runner", ["celery", "tasks", "none"])
def test_server_starts_no_threads_with_another_runner(kind, monkeypatch, settings, runner):
    monkeypatch.setattr(thread_runner, "_loops", {})
    monkeypatch.setattr(thread_runner, "_is_test", lambda: False)
    settings.MYOMETRICS = {"JOB_RUNNER": runner}
    request_started.send(sender=None)
    assert thread_runner._loops == {}


@cache
def task_of(kind_name):
    """Celery has one task of a name in a process."""
    return celery_runner.celery_task(kind_name)


@pytest.fixture
def eager_celery(kind, settings):
    usual = current_app._get_current_object()
    app = Celery("eager", broker="redis://127.0.0.1:1/0")
    app.set_current()
    app.conf.task_always_eager = True
    settings.MYOMETRICS = {"JOB_RUNNER": "celery"}
    yield task_of(kind.name)
    usual.set_current()


@pytest.mark.django_db(transaction=True)
def test_celery_runs_a_job_by_its_key_after_the_commit(kind, eager_celery):
    enqueue(kind.name, key="7")
    assert kind.keys == ["7"]


@pytest.mark.django_db(transaction=True)
def test_celery_runs_many_jobs_in_one_task(kind, eager_celery):
    enqueue_many(kind.name, [(str(number), {}) for number in range(50)])
    assert len(kind.keys) == 50


@pytest.mark.django_db(transaction=True)
def test_celery_task_takes_the_id_that_an_older_release_sent(kind, eager_celery, settings):
    settings.MYOMETRICS = {"JOB_RUNNER": "none"}
    enqueue(kind.name, key="7")
    eager_celery.apply(args=[7])
    assert kind.keys == ["7"]


@pytest.mark.django_db(transaction=True)
def test_job_is_kept_if_the_broker_can_not_be_reached(kind, settings, caplog):
    settings.MYOMETRICS = {"JOB_RUNNER": "celery"}
    usual = current_app._get_current_object()
    Celery("unreachable", broker="redis://127.0.0.1:1/0").set_current()
    try:
        enqueue(kind.name, key="7")
    finally:
        usual.set_current()
    assert "starts later" in caplog.text
    assert Job.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_unreachable_broker_is_tried_once_for_many_jobs(kind, settings, caplog, monkeypatch):
    monkeypatch.setattr(runners, "PAUSE", PATIENCE)
    settings.MYOMETRICS = {"JOB_RUNNER": "celery"}
    usual = current_app._get_current_object()
    Celery("unreachable", broker="redis://127.0.0.1:1/0").set_current()
    try:
        with transaction.atomic():
            for number in range(100):
                enqueue(kind.name, key=str(number))
    finally:
        usual.set_current()
    assert caplog.text.count("starts later") == 1
    assert Job.objects.count() == 100


@pytest.mark.django_db(transaction=True)
def test_look_of_celery_beat_sends_each_kind_with_due_jobs(kind, eager_celery, settings):
    settings.MYOMETRICS = {"JOB_RUNNER": "none"}
    enqueue(kind.name, key="7")
    settings.MYOMETRICS = {"JOB_RUNNER": "celery"}
    assert celery_runner.run_due_jobs() == [kind.name]
    assert kind.keys == ["7"]


if django.VERSION >= (6, 0):

    @pytest.mark.django_db(transaction=True)
    def test_djangos_tasks_run_a_job_after_the_commit(kind, settings):
        settings.MYOMETRICS = {"JOB_RUNNER": "tasks"}
        enqueue(kind.name, key="7")
        assert kind.keys == ["7"]


def test_job_threads_beside_sqlite_without_write_locks_are_a_warning(settings, monkeypatch):
    def found():
        return [message.id for message in check_sqlite_transactions()]

    options = {**connection.settings_dict["OPTIONS"]}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    monkeypatch.setattr(connection, "vendor", "sqlite")
    options.pop("transaction_mode", None)
    assert found() == ["myometrics_core.W018"]
    settings.MYOMETRICS = {"JOB_RUNNER": "none"}
    assert found() == []
    settings.MYOMETRICS = {}
    options["transaction_mode"] = "IMMEDIATE"
    assert found() == []


def test_jobs_run_without_time_zones_names_the_setting(settings):
    settings.USE_TZ = False
    with pytest.raises(CommandError, match="USE_TZ"):
        call_command("jobs_run", "--once")
