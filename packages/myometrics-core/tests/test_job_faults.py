"""Jobs beside a site's receivers, routers and isolation levels, and with kinds that fail."""

import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created
from django.db.models.signals import post_delete
from job_kinds import HOUR, Note, Recurring, fail

from myometrics_core.jobs import (
    Job,
    JobFailed,
    RetryPolicy,
    enqueue,
    enqueue_many,
    every,
    register_job_kind,
    run_all_jobs,
    run_jobs,
)
from myometrics_core.jobs import loop as loop_module
from myometrics_core.jobs.claims import claim_job
from myometrics_core.jobs.loop import JobLoop
from myometrics_core.jobs.running import due_kinds
from myometrics_core.times import utc_now
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("kind")]


def in_thread(function):
    def run():
        try:
            function()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)


class EnqueueAfter:
    """Enqueues from another connection after the first statement with ``prefix``."""

    def __init__(self, prefix, kind, key):
        self.prefix, self.kind, self.key, self.is_done = prefix, kind, key, False

    def __call__(self, execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if not self.is_done and sql.startswith(self.prefix) and "myometrics_core_job" in sql:
            self.is_done = True
            in_thread(lambda: enqueue(self.kind, key=self.key))
        return result


def test_finish_deletes_in_one_statement_with_a_global_delete_receiver(kind):
    def receiver(**kwargs):
        pass

    enqueue(kind.name, key="7")
    job = claim_job(Job.objects.get().pk, kind)
    hook = EnqueueAfter("SELECT", kind.name, "7")
    post_delete.connect(receiver)  # Django's delete() then reads the rows, and deletes by id
    try:
        with connection.execute_wrapper(hook):
            job.finish()
    finally:
        post_delete.disconnect(receiver)
    assert not hook.is_done


def test_recurring_job_enqueued_while_it_is_finished_runs_once_more():
    recurring = Recurring()
    register_job_kind(recurring)
    enqueue(recurring.name, key="")
    job = claim_job(Job.objects.get().pk, recurring)
    with connection.execute_wrapper(EnqueueAfter("UPDATE", recurring.name, "")):
        job.finish()
    assert Job.objects.due().exists()


def test_job_enqueued_during_its_last_attempt_is_not_lost(kind):
    enqueue(kind.name, key="7")

    def effect(job):
        enqueue(kind.name, key="7")
        raise JobFailed("no", permanent=True)

    kind.effect = effect
    run_jobs(kind.name)
    kind.effect = lambda job: None
    Job.objects.update(run_at=utc_now())
    assert run_jobs(kind.name) == 1


def test_backoff_never_overflows():
    policy = RetryPolicy(base=timedelta(days=1), cap=timedelta(days=2))
    assert policy.backoff(1000) <= timedelta(days=2)


@contextmanager
def loop_running(interval):
    loop = JobLoop(threads=2, interval=interval)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.stop()
        thread.join(PATIENCE)


@pytest.fixture
def looks(monkeypatch):
    looks = []
    monkeypatch.setattr(loop_module, "due_kinds", lambda: looks.append(1) or due_kinds())
    return looks


def test_loop_does_not_spin_while_a_kind_is_paused(kind, looks):
    enqueue_many(kind.name, [(str(n), {}) for n in range(10)])
    kind.effect = fail(JobFailed("down", service_down=True))
    with loop_running(interval=3600):
        wait_for(lambda: len(kind.runs) == 3)
        time.sleep(0.5)
    assert len(looks) < 5


@pytest.mark.parametrize("pause", [HOUR, timedelta()])
def test_loop_does_not_spin_while_a_session_can_not_begin(kind, looks, pause):
    kind.pause, kind.session = pause, fail(ZeroDivisionError())
    enqueue(kind.name, key="7")
    with loop_running(interval=3600):
        wait_for(lambda: looks)
        time.sleep(0.5)
    assert len(looks) < 5


def test_paused_kinds_leave_the_threads_to_others(kind):
    other = Note("tests.other")
    register_job_kind(other)
    enqueue_many(kind.name, [(str(n), {}) for n in range(10)])
    enqueue(other.name)
    kind.effect = fail(JobFailed("down", service_down=True))
    run_jobs(kind.name)
    assert due_kinds() == [other.name]


def test_interval_beyond_all_dates_leaves_the_other_jobs_alone(kind):
    recurring = Recurring()
    recurring.schedule = every(timedelta.max)
    register_job_kind(recurring)
    enqueue(kind.name)
    assert run_all_jobs() == 2
    assert run_all_jobs() == 0


def test_loop_survives_an_unexpected_error(kind, monkeypatch):
    errors = [ZeroDivisionError(), ZeroDivisionError()]

    def look():
        if errors:
            raise errors.pop()

    monkeypatch.setattr(loop_module, "ensure_recurring_jobs", look)
    enqueue(kind.name, key="7")
    with loop_running(interval=0.05):
        wait_for(lambda: kind.keys == ["7"])


def test_broken_kind_does_not_stop_the_others(kind):
    other = Note("tests.other")
    register_job_kind(other)
    enqueue(kind.name)
    enqueue(other.name)
    kind.session = fail(ZeroDivisionError())
    run_all_jobs()
    assert len(other.runs) == 1


def test_error_in_on_dead_does_not_stop_other_jobs(kind):
    enqueue_many(kind.name, [("1", {}), ("2", {}), ("3", {})])
    kind.effect = fail(JobFailed("no", permanent=True))
    kind.on_dead = fail(ZeroDivisionError())
    assert run_jobs(kind.name) == 3
    assert Job.objects.pending().count() == 3


def test_enqueue_of_an_unknown_kind_raises():
    with pytest.raises(LookupError):
        enqueue("tests.typo")
    assert not Job.objects.exists()


def test_summary_with_nul_is_stored(kind):
    enqueue(kind.name, key="7")
    kind.effect = fail(JobFailed("a\x00b\ud800"))
    run_jobs(kind.name)
    assert Job.objects.get().last_error


def test_claim_at_repeatable_read_beside_an_enqueue_is_no_error(kind):
    if connection.vendor != "postgresql":
        return
    enqueue(kind.name, key="7")
    claimed = []

    def claim():
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_isolation = 'repeatable read'")
        try:
            claimed.append(run_jobs(kind.name))
        except Exception as error:
            claimed.append(error)
        finally:
            connections.close_all()

    with transaction.atomic():
        enqueue(kind.name, key="7")
        worker = threading.Thread(target=claim)
        worker.start()
        wait_for(is_awaited)
    worker.join(PATIENCE)
    assert claimed == [0]
    assert run_jobs(kind.name) == 1


def is_awaited():
    """Whether another transaction waits for this one; the server's other databases don't count."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks"
            " WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        return cursor.fetchone()[0] > 0


class ReadFromReplica:
    """A site's router whose replica lags: here it has no jobs at all."""

    def db_for_read(self, model, **hints):
        return "replica" if model is Job else None


def test_jobs_are_read_from_the_primary_despite_a_router(kind, settings):
    settings.DATABASE_ROUTERS = [ReadFromReplica()]
    assert Job.objects.all().db == "default"
    enqueue(kind.name, key="7")
    assert run_jobs(kind.name) == 1


def test_workers_at_repeatable_read_run_each_job_once(kind, run_concurrently):
    def set_level(connection, **kwargs):
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET default_transaction_isolation = 'repeatable read'")

    enqueue_many(kind.name, [(str(number), {}) for number in range(40)])
    connection_created.connect(set_level)
    try:
        attempts = run_concurrently(lambda: run_jobs(kind.name), times=10)
    finally:
        connection_created.disconnect(set_level)
    assert sum(attempts) == 40
