"""The job queue: written with its fact, run at least once, retried, taken over, given up."""

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, transaction
from django.urls import clear_script_prefix, reverse
from hypothesis import given
from hypothesis import strategies as st
from job_kinds import HOUR, Recurring, fail

from myometrics_core.health_log.models import HealthState
from myometrics_core.jobs import (
    Job,
    JobFailed,
    JobKind,
    RetryPolicy,
    cancel_jobs,
    daily,
    enqueue,
    enqueue_many,
    every,
    register_job_kind,
    run_all_jobs,
    run_job,
    run_jobs,
    running,
)
from myometrics_core.jobs.claims import claim_job
from myometrics_core.times import utc_now
from myometrics_testing.waiting import PATIENCE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("kind")]


def make_due(**lookup):
    Job.objects.filter(**lookup).update(run_at=utc_now())


def test_job_runs_after_the_commit_and_is_deleted(kind):
    with transaction.atomic():
        enqueue(kind.name, {"id": 7}, key="7")
    assert run_job(kind.name, "7")
    assert kind.runs == [("7", {"id": 7})]
    assert not Job.objects.exists()


def test_links_of_a_job_have_the_prefix_of_the_site(kind, settings):
    settings.FORCE_SCRIPT_NAME = "/clinic"
    links = []
    kind.effect = lambda job: links.append(reverse("livez"))
    enqueue(kind.name, key="7")
    clear_script_prefix()  # as in a new thread
    try:
        assert run_job(kind.name, "7")
    finally:
        clear_script_prefix()
    assert links == ["/clinic/livez"]


def test_job_of_a_rolled_back_transaction_does_not_exist(kind):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        enqueue(kind.name, key="7")
        raise ZeroDivisionError
    assert run_jobs(kind.name) == 0


def test_job_without_a_key_is_written_each_time(kind):
    enqueue(kind.name)
    enqueue(kind.name)
    assert run_jobs(kind.name) == 2


def test_job_with_a_pending_key_is_written_once(kind):
    enqueue(kind.name, {"n": 1}, key="7")
    enqueue(kind.name, {"n": 2}, key="7")
    assert run_jobs(kind.name) == 1
    assert kind.runs == [("7", {"n": 1})]


def test_job_enqueued_while_it_runs_runs_once_more(kind):
    enqueue(kind.name, key="7")
    kind.effect = lambda job: len(kind.runs) == 1 and enqueue(kind.name, key="7")
    assert run_jobs(kind.name) == 2
    assert not Job.objects.exists()


def test_job_that_enqueues_itself_until_done_uses_no_attempts(kind):
    enqueue(kind.name, key="7")
    kind.effect = lambda job: len(kind.runs) < 10 and enqueue(kind.name, key="7")
    assert run_jobs(kind.name) == 10
    assert kind.dead == []


def test_many_jobs_are_written_in_a_constant_number_of_statements(
    kind, django_assert_max_num_queries
):
    with django_assert_max_num_queries(24):  # SQLite inserts fewer rows per statement
        enqueue_many(kind.name, [(str(number), {}) for number in range(1000)])
    assert Job.objects.count() == 1000


def test_job_for_later_runs_only_when_it_is_due(kind):
    enqueue(kind.name, key="7", run_at=utc_now() + HOUR)
    assert run_jobs(kind.name) == 0
    make_due(key="7")
    assert run_jobs(kind.name) == 1


def test_job_enqueued_earlier_than_the_pending_one_is_due_earlier(kind):
    enqueue(kind.name, key="7", run_at=utc_now() + HOUR)
    enqueue(kind.name, key="7")
    assert run_jobs(kind.name) == 1


def test_failed_job_waits_for_its_backoff_even_if_enqueued_again(kind):
    enqueue(kind.name, key="7")
    kind.effect = fail(JobFailed("no answer"))
    run_jobs(kind.name)
    enqueue(kind.name, key="7")
    assert run_jobs(kind.name) == 0
    assert Job.objects.get().last_error == "no answer"


def test_unexpected_exception_is_stored_by_its_type_alone(kind, caplog):
    enqueue(kind.name, key="7")
    kind.effect = fail(ValueError("ada@clinic.example"))
    run_jobs(kind.name)
    assert Job.objects.get().last_error == "ValueError"


def test_job_is_dead_after_its_last_attempt(kind):
    enqueue(kind.name, key="7")
    kind.effect = fail(JobFailed("no answer"))
    for _ in range(5):
        run_jobs(kind.name)
        make_due(state=Job.State.PENDING)
    job = Job.objects.get()
    assert (len(kind.runs), kind.dead) == (3, ["7"])
    assert (job.state, job.attempts, job.last_error) == ("dead", 3, "no answer")


def test_permanent_failure_makes_the_job_dead_at_once(kind):
    enqueue(kind.name, key="7")
    kind.effect = fail(JobFailed("no such address", permanent=True))
    run_jobs(kind.name)
    assert kind.dead == ["7"]


def test_error_while_a_job_is_marked_dead_leaves_it_pending(kind):
    enqueue(kind.name, key="7")
    kind.effect = fail(JobFailed("no such address", permanent=True))
    kind.on_dead = fail(ZeroDivisionError())
    run_jobs(kind.name)
    assert Job.objects.get().state == "pending"


def test_dead_job_does_not_prevent_a_new_one_with_its_key(kind):
    test_permanent_failure_makes_the_job_dead_at_once(kind)
    kind.effect = lambda job: None
    enqueue(kind.name, key="7")
    assert run_jobs(kind.name) == 1


def test_claimed_job_is_run_by_no_other_worker_until_its_lease_ends(kind):
    enqueue(kind.name, key="7")
    killed = claim_job(Job.objects.get().pk, kind)
    assert run_jobs(kind.name) == 0
    Job.objects.update(claimed_until=utc_now())
    assert run_jobs(kind.name) == 1
    assert killed.finish() is False


def test_job_that_kills_each_worker_is_dead_after_its_attempts(kind):
    enqueue(kind.name, key="7")
    for _ in range(3):
        assert claim_job(Job.objects.get().pk, kind)
        Job.objects.update(claimed_until=utc_now())
    run_jobs(kind.name)
    assert (kind.runs, kind.dead) == ([], ["7"])


def test_result_is_written_only_by_the_worker_that_holds_the_claim(kind):
    enqueue(kind.name, key="7")
    results = []

    def lose_the_claim(job):
        Job.objects.filter(pk=job.pk).update(claimed_by=None)
        with transaction.atomic():
            results.append(job.finish())

    kind.effect = lose_the_claim
    run_jobs(kind.name)
    assert results == [False]
    assert Job.objects.exists()


def test_result_and_the_end_of_the_job_are_one_transaction(kind):
    enqueue(kind.name, key="7")

    def write_and_fail(job):
        with transaction.atomic():
            assert job.finish()
            HealthState.objects.create(pk=1)
            raise JobFailed("no answer")

    kind.effect = write_and_fail
    run_jobs(kind.name)
    assert (Job.objects.count(), HealthState.objects.count()) == (1, 0)


def test_short_database_failure_after_the_work_does_not_repeat_it(kind, monkeypatch):
    enqueue(kind.name, key="7")
    finish, failures = Job.finish, [OperationalError("gone")] * 2

    def fail_twice(job):
        if failures:
            raise failures.pop()
        return finish(job)

    monkeypatch.setattr(Job, "finish", fail_twice)
    run_jobs(kind.name)
    assert (len(kind.runs), Job.objects.count()) == (1, 0)


def test_run_of_several_jobs_shares_one_session(kind):
    enqueue_many(kind.name, [("1", {}), ("2", {}), ("3", {})])
    assert run_jobs(kind.name) == 3
    assert kind.sessions == 1


def test_run_stops_after_three_failures_of_the_service(kind):
    enqueue_many(kind.name, [(str(number), {}) for number in range(10)])
    kind.effect = fail(JobFailed("server down", service_down=True))
    assert run_jobs(kind.name) == 3


def test_jobs_pause_in_this_process_while_the_service_is_down(kind, monkeypatch):
    enqueue_many(kind.name, [("1", {}), ("2", {}), ("3", {})])
    kind.effect = fail(JobFailed("server down", service_down=True))
    assert run_job(kind.name, "1")
    kind.effect = lambda job: None
    assert not run_job(kind.name, "2")
    assert run_jobs(kind.name) == 0
    monkeypatch.setattr(running, "_paused_until", {})  # the pause is over
    assert run_jobs(kind.name) == 2


def test_cancelled_job_does_not_run(kind):
    enqueue(kind.name, key="7")
    assert cancel_jobs(kind.name, ["7"]) == 1
    assert run_jobs(kind.name) == 0


def test_recurring_job_runs_at_once_and_then_by_its_schedule(kind):
    recurring = Recurring()
    register_job_kind(recurring)
    assert run_all_jobs() == 1
    assert run_all_jobs() == 0
    job = Job.objects.get()
    assert timedelta(minutes=59) < job.run_at - utc_now() <= HOUR
    make_due()
    assert run_all_jobs() == 1


def test_recurring_job_is_never_dead_and_retries_with_backoff(kind):
    recurring = Recurring()
    register_job_kind(recurring)
    recurring.effect = fail(JobFailed("no answer", permanent=True))
    for _ in range(5):
        run_all_jobs()
        make_due()
    job = Job.objects.get()
    assert (job.state, job.attempts, job.last_error) == ("pending", 5, "no answer")
    recurring.effect = lambda job: None
    run_all_jobs()
    job.refresh_from_db()
    assert (job.attempts, job.last_error) == (0, "")


def test_recurring_job_is_tried_again_by_its_next_run_at_the_latest():
    class Sealing(JobKind):
        name = "tests.sealing"
        schedule = every(timedelta(seconds=10))
        run = fail(JobFailed("no database"))

    register_job_kind(Sealing())
    for _ in range(8):
        run_all_jobs()
        assert Job.objects.get().run_at - utc_now() <= timedelta(seconds=10)
        make_due()
    assert Job.objects.get().attempts == 8


def test_recurring_job_can_be_run_before_it_is_due(kind):
    recurring = Recurring()
    register_job_kind(recurring)
    run_all_jobs()
    assert not run_job(recurring.name)
    assert run_job(recurring.name, now=True)


def test_recurring_job_follows_a_shorter_interval(kind):
    recurring = Recurring()
    register_job_kind(recurring)
    run_all_jobs()
    Job.objects.update(run_at=utc_now() + 100 * HOUR)
    run_all_jobs()
    assert Job.objects.get().run_at <= utc_now() + HOUR


def test_job_of_an_unknown_kind_is_left_alone(kind):
    Job.objects.create(kind="tests.removed", key="7")
    assert run_all_jobs() == 0
    assert Job.objects.exists()


def test_daily_schedule_names_the_next_such_time():
    at_three = daily(3, 17)
    before = utc_now().replace(hour=3, minute=16, second=59)
    assert at_three.next_run(before) == before.replace(minute=17, second=0, microsecond=0)
    third = at_three.next_run(before)
    assert at_three.next_run(third) == third + timedelta(days=1)


@given(attempts=st.integers(1, 10_000))
def test_backoff_stays_between_half_and_all_of_its_bound(attempts):
    policy = RetryPolicy(base=timedelta(seconds=30), cap=HOUR)
    bound = min(timedelta(seconds=30) * 2 ** min(attempts - 1, 40), HOUR)
    assert bound / 2 <= policy.backoff(attempts) <= bound


def test_twenty_workers_run_each_job_once(kind, run_concurrently):
    enqueue_many(kind.name, [(str(number), {}) for number in range(40)])
    attempts = run_concurrently(lambda: run_jobs(kind.name), times=20)
    assert sum(attempts) == 40
    assert sorted(kind.keys) == sorted(map(str, range(40)))


def test_twenty_writers_of_one_key_write_one_job(kind, run_concurrently):
    run_concurrently(lambda: enqueue(kind.name, key="7"), times=20)
    assert Job.objects.count() == 1


def test_fact_written_beside_a_running_job_is_seen_by_a_run(kind, database_vendor):
    """A worker that reads before the writer commits runs again after the commit."""
    enqueue(kind.name, key="7")
    has_read, seen = threading.Event(), []

    def read(job):
        seen.append(HealthState.objects.exists())
        if len(seen) == 1:
            has_read.set()
            writer.join(PATIENCE)

    def write():
        assert has_read.wait(PATIENCE)
        with transaction.atomic():
            HealthState.objects.create(pk=1)
            enqueue(kind.name, key="7")
        from django.db import connection

        connection.close()

    kind.effect = read
    writer = threading.Thread(target=write)
    writer.start()
    run_jobs(kind.name)
    assert seen == [False, True]
    assert not Job.objects.exists()
