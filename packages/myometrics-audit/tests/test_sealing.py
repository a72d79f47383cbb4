"""Sealing: it survives crashes, and writers never wait for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from myometrics_audit.listing import Selection, entries_count
from myometrics_audit.models import AuditLog, EntryCount, Erasure, Leaf, Seal
from myometrics_audit.sealing import LogVerifier, seal_pending
from myometrics_audit.sealing.anchors import anchors_publish
from myometrics_audit.sealing.locks import LOCK_NUMBER
from myometrics_audit.sealing.seals import ANCHOR_JOB, unsealed_count
from myometrics_audit.sealing.verification.seal_checks import read_anchors
from myometrics_core.jobs import Job, run_job
from myometrics_core.jobs.running import ensure_recurring_jobs
from myometrics_core.personal_data import erase_user
from myometrics_core.times import utc_now
from myometrics_testing.waiting import PATIENCE, wait_for

SEAL_JOB = "myometrics_audit.seal"

pytestmark = [
    pytest.mark.django_db,
    # The children that are to die do nothing but the work in question.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


def assert_sound(entries):
    assert [str(problem) for problem in LogVerifier().problems()] == []
    assert entries_count(Selection()) == entries
    assert unsealed_count() == 0
    run_job(ANCHOR_JOB)
    assert not Seal.objects.filter(anchored_at=None).exists()
    numbers = list(Seal.objects.order_by("number").values_list("number", flat=True))
    assert numbers == list(range(1, len(numbers) + 1))


def make(count):
    AuditLog.objects.bulk_create(
        AuditLog(action=f"a{n % 3}", resource_type="t", resource_id=str(n)) for n in range(count)
    )


def test_unsealed_leaves_are_read_in_the_order_of_their_index(database_vendor):
    make(3)
    with CaptureQueriesContext(connection) as captured:
        list(seal_pending())
    query = next(one["sql"] for one in captured if "LIMIT 8192" in one["sql"])

    with connection.cursor() as cursor:
        explain = "EXPLAIN QUERY PLAN"
        if database_vendor == "postgresql":
            explain = "EXPLAIN"
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        cursor.execute(f"{explain} {query}")
        plan = str(cursor.fetchall())

    # By the key alone, PostgreSQL would read all sealed leaves to find the unsealed ones.
    assert "myo_audit_leaf_seal" in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan


def test_leaves_are_vacuumed_often_and_read_by_one_process(database_vendor):
    if database_vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT reloptions FROM pg_class WHERE relname = 'myometrics_audit_leaf'")
        options = cursor.fetchone()[0]
    # Not a share of the table: lists read the dead index entries of sealed leaves.
    assert "autovacuum_vacuum_scale_factor=0" in options
    assert "vacuum_index_cleanup=on" in options
    assert "parallel_workers=0" in options


def test_seal_batch_size_is_the_setting(settings):
    settings.MYOMETRICS_AUDIT = {"SEAL_BATCH_SIZE": 4, "ALLOW_FLUSH": True}
    make(10)
    assert [progress.leaves for progress in seal_pending()] == [4, 8, 10]
    assert list(Seal.objects.values_list("entries", flat=True)) == [4, 4, 2]
    assert_sound(10)


def test_seal_command_exits_with_1_if_another_sealer_runs(
    database_vendor,
):
    make(3)
    if database_vendor == "sqlite":  # writers queue for the one lock there is: nothing to say
        call_command("audit_seal", stdout=StringIO())
        assert_sound(3)
        return
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK_NUMBER])
        with pytest.raises(SystemExit) as ended:
            call_command("audit_seal", stdout=StringIO())
    other.close()
    assert ended.value.code == 1
    assert unsealed_count() == 3


def test_no_seal_is_written_without_entries():
    assert list(seal_pending()) == []
    assert not Seal.objects.exists()


def test_seal_job_seals_and_is_due_again_after_ten_seconds():
    make(3)
    with time_machine.travel(utc_now(), tick=False):
        ensure_recurring_jobs()
        assert run_job(SEAL_JOB)
        assert_sound(3)
        assert Job.objects.get(kind=SEAL_JOB).run_at == utc_now() + timedelta(seconds=10)
        assert not run_job(SEAL_JOB)


@pytest.mark.celery
@pytest.mark.django_db(transaction=True)
def test_celery_tasks_run_the_jobs_under_their_names(settings):
    from myometrics_audit import tasks

    settings.MYOMETRICS |= {"JOB_RUNNER": "celery"}
    settings.CELERY_TASK_ALWAYS_EAGER = True
    make(3)
    ensure_recurring_jobs()
    assert (tasks.seal.name, tasks.anchor.name) == (SEAL_JOB, ANCHOR_JOB)
    assert tasks.seal.apply().get() == 1
    assert not Job.objects.filter(kind=ANCHOR_JOB).exists()
    assert_sound(3)


def test_seal_command_seals_and_recounts():
    make(5)
    output = StringIO()
    call_command("audit_seal", "--json", stdout=output)
    assert output.getvalue() == '{"seals": 1, "leaves": 5, "number": 1, "counted": null}\n'
    EntryCount.objects.filter(scope="").update(count=99)
    assert entries_count(Selection()) == 99
    call_command("audit_seal", "--recount", stdout=output)
    assert "Recounted 5 sealed entries." in output.getvalue()
    assert_sound(5)


def test_anchors_go_to_the_log_the_file_and_the_hook(settings, tmp_path, caplog):
    path = tmp_path / "anchors.jsonl"
    received: list[dict[str, Any]] = []
    settings.MYOMETRICS_AUDIT = {"ANCHOR_FILE": str(path), "ANCHOR_HOOK": received.append}
    make(2)
    list(seal_pending())
    with caplog.at_level("INFO", logger="myometrics.audit.anchor"):
        assert run_job(ANCHOR_JOB)
    (made,) = Seal.objects.all()
    signature = bytes(made.signature).hex()
    assert signature in path.read_text()
    assert received[0]["signature"] == signature
    assert any(signature in message for message in caplog.messages)


def test_anchor_that_was_cut_off_is_written_again(settings, tmp_path):
    """As on a full disk: the publication fails, and is retried."""
    path = tmp_path / "anchors.jsonl"
    settings.MYOMETRICS_AUDIT = {"ANCHOR_FILE": str(path), "SEAL_BATCH_SIZE": 1}
    make(2)
    list(seal_pending())
    list(anchors_publish(using="default"))
    whole = path.read_text()
    path.write_text(whole[:-50])
    Seal.objects.filter(number=2).update(anchored_at=None)
    assert [anchor["number"] for anchor in read_anchors(path)] == [1]
    list(anchors_publish(using="default"))
    path.write_text(path.read_text()[:-100])
    Seal.objects.filter(number=2).update(anchored_at=None)
    list(anchors_publish(using="default"))
    assert [anchor["number"] for anchor in read_anchors(path)] == [1, 2]
    assert path.read_text().startswith(f"{whole[:-50]}\n")
    call_command("audit_verify", stdout=StringIO())
    path.write_text(f'{{"number": 3,\n{whole}')
    with pytest.raises(ValueError, match="line 1, is not an anchor"):
        list(read_anchors(path))


def test_failing_hook_is_retried_in_order_while_sealing_continues(settings):
    received, failures = [], [OSError("unreachable"), OSError("unreachable")]

    def hook(anchor):
        received.append(anchor["number"])
        if failures:
            raise failures.pop()

    settings.MYOMETRICS_AUDIT = {"ANCHOR_HOOK": hook}
    make(2)
    list(seal_pending())
    assert run_job(ANCHOR_JOB)
    make(2)
    list(seal_pending())
    assert unsealed_count() == 0
    job = Job.objects.get(kind=ANCHOR_JOB)
    assert (job.attempts, job.last_error) == (1, "OSError")
    assert job.run_at > utc_now()
    assert not run_job(ANCHOR_JOB)
    assert run_job(ANCHOR_JOB, now=True)
    assert Seal.objects.filter(anchored_at=None).count() == 2
    assert run_job(ANCHOR_JOB, now=True)
    assert received == [1, 1, 1, 2]
    assert not Job.objects.filter(kind=ANCHOR_JOB).exists()
    assert_sound(4)


def test_seal_command_publishes_at_once_even_in_backoff(settings):
    received, failures = [], [OSError("unreachable")]

    def hook(anchor):
        if failures:
            raise failures.pop()
        received.append(anchor["number"])

    settings.MYOMETRICS_AUDIT = {"ANCHOR_HOOK": hook}
    make(1)
    call_command("audit_seal", stdout=StringIO())
    assert received == []
    make(1)
    call_command("audit_seal", stdout=StringIO())
    assert received == [1, 2]
    assert not Job.objects.filter(kind=ANCHOR_JOB).exists()


def test_seals_without_a_job_are_published_after_the_next_run():
    make(2)
    list(seal_pending())
    Job.objects.filter(kind=ANCHOR_JOB).delete()
    list(seal_pending())
    assert_sound(2)


def test_long_publication_continues_in_another_run(settings, monkeypatch):
    monkeypatch.setattr("myometrics_audit.sealing.jobs.MAX_SECONDS", 0.0)
    settings.MYOMETRICS_AUDIT = {"SEAL_BATCH_SIZE": 1, "ALLOW_FLUSH": True}
    make(3)
    list(seal_pending())
    for left in (2, 1, 0):
        assert run_job(ANCHOR_JOB)
        assert Seal.objects.filter(anchored_at=None).count() == left


def _killed_at(statement, work):
    """Run ``work`` in a child process that is killed before its n-th statement; was it killed?"""
    connections.close_all()
    child = os.fork()
    if child == 0:
        left = [statement]

        def count(execute, *args):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return execute(*args)

        try:
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SET application_name TO 'killed'")
            with connection.execute_wrapper(count):
                work()
        finally:
            os._exit(0)
    killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    if connection.vendor == "postgresql":
        # It keeps the locks of the child until it notices.
        wait_for(lambda: not _has_killed_session())
    return killed


def _has_killed_session():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = 'killed'")
        return cursor.fetchone() is not None


@pytest.mark.django_db(transaction=True)
def test_sealer_killed_at_any_statement_can_be_continued(django_user_model, settings):
    settings.MYOMETRICS_AUDIT = {"SEAL_BATCH_SIZE": 3, "ALLOW_FLUSH": True}
    entries, statement, killed = 0, 0, True
    while killed:
        user = django_user_model.objects.create_user(email=f"p{statement}@clinic.example")
        AuditLog.objects.create(user=user, action="a", resource_type="t", resource_id="rolled back")
        user.delete()
        make(4)
        entries += 4
        killed = _killed_at(statement, lambda: list(seal_pending()))
        list(seal_pending())
        assert_sound(entries)
        statement += 1
    assert statement > 20


@pytest.mark.django_db(transaction=True)
def test_publication_killed_at_any_statement_is_completed_in_order(settings, tmp_path):
    path = tmp_path / "anchors.jsonl"
    settings.MYOMETRICS_AUDIT = {
        "SEAL_BATCH_SIZE": 1,
        "ANCHOR_FILE": str(path),
        "ALLOW_FLUSH": True,
    }
    statement, killed = 0, True
    while killed:
        make(2)
        list(seal_pending())
        killed = _killed_at(statement, lambda: run_job(ANCHOR_JOB))
        # The lease of the killed worker expires.
        Job.objects.filter(kind=ANCHOR_JOB).update(claimed_until=None)
        run_job(ANCHOR_JOB)
        assert not Seal.objects.filter(anchored_at=None).exists()
        statement += 1
    numbers = [json.loads(line)["number"] for line in path.read_text().splitlines()]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(Seal.objects.values_list("number", flat=True))
    assert statement > 5


@pytest.mark.django_db(transaction=True)
def test_erasure_killed_at_any_statement_is_all_or_nothing(
    django_user_model,
):
    statement, killed = 0, True
    while killed:
        user = django_user_model.objects.create_user(email=f"p{statement}@clinic.example")
        for n in range(3):
            AuditLog.objects.create(user=user, action="a", resource_type="t", resource_id=str(n))
            if n == 1:
                list(seal_pending())
        killed = _killed_at(statement, lambda: erase_user(user))  # noqa: B023
        assert [str(problem) for problem in LogVerifier().problems()] == []
        left = AuditLog.objects.filter(user_id=user.pk).count()
        there = django_user_model.objects.filter(pk=user.pk).exists()
        assert (left, there) in {(3, True), (0, False)}
        list(seal_pending())
        statement += 1
    assert statement > 8


@pytest.mark.django_db(transaction=True)
def test_late_commit_with_a_lower_id_is_sealed():
    if connection.vendor == "sqlite":  # its writers take turns: the ids have to be chosen
        AuditLog.objects.create(id=7, action="a", resource_type="t", resource_id="first")
        list(seal_pending())
        AuditLog.objects.create(id=3, action="a", resource_type="t", resource_id="late")
    else:
        _commit_late()
    assert Leaf.objects.filter(seal_number=None).count() == 1
    list(seal_pending())
    assert Seal.objects.count() == 2
    late, first = AuditLog.objects.order_by("id")
    assert (late.resource_id, first.resource_id) == ("late", "first")
    assert_sound(2)


def _commit_late():
    written, sealed = threading.Event(), threading.Event()

    def late():
        with transaction.atomic():
            AuditLog.objects.create(action="a", resource_type="t", resource_id="late")
            written.set()
            sealed.wait(PATIENCE)
        connection.close()

    thread = threading.Thread(target=late)
    thread.start()
    assert written.wait(PATIENCE)
    AuditLog.objects.create(action="a", resource_type="t", resource_id="first")
    list(seal_pending())
    sealed.set()
    thread.join()


@pytest.mark.django_db(transaction=True)
def test_concurrent_sealers_writers_and_deletion_leave_a_valid_log(
    run_concurrently, django_user_model
):
    user = django_user_model.objects.create_user(email="going@clinic.example")
    AuditLog.objects.create(user=user, action="a", resource_type="t", resource_id="rolled back")

    def write():
        for n in range(5):
            AuditLog.objects.create(action="a", resource_type="t", resource_id=str(n))

    work = [*[write] * 4, *[lambda: list(seal_pending())] * 3, lambda: erase_user(user)]
    outcomes = run_concurrently(work)
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    list(seal_pending())
    assert_sound(20)


@pytest.mark.django_db(transaction=True)
def test_writers_do_not_wait_for_the_sealer(run_concurrently):
    if connection.vendor == "sqlite":
        return  # one writer at a time is all that SQLite has
    from myometrics_audit.sealing.locks import evidence_lock

    with evidence_lock("default"):
        (outcome,) = run_concurrently(lambda: make(1))
        assert outcome is None
        (progress,) = run_concurrently(lambda: list(seal_pending()))
        assert progress == []


def test_times_are_signed_in_whole_milliseconds(write, user):
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=timezone.utc)
    with time_machine.travel(moment, tick=False):
        saved = write(timestamp=moment)
        (created,) = AuditLog.objects.bulk_create([AuditLog(user=user, action="a")])
        list(seal_pending())
        user.delete()
    times = [saved.timestamp, created.timestamp]
    times += [Seal.objects.get().sealed_at, Erasure.objects.get().erased_at]
    assert times == [moment.replace(microsecond=678_000)] * 4


@pytest.mark.django_db(transaction=True)
def test_two_sealers_at_once_write_each_seal_once(settings, run_concurrently):
    settings.MYOMETRICS_AUDIT = {"SEAL_BATCH_SIZE": 2, "ALLOW_FLUSH": True}
    make(12)

    def seal_all():
        list(seal_pending())

    assert run_concurrently([seal_all, seal_all]) == [None, None]
    list(seal_pending())
    assert list(Seal.objects.values_list("entries", flat=True)) == [2] * 6
    assert_sound(12)


@pytest.mark.any_database
def test_jobs_seal_and_publish_without_celery(tmp_path):
    anchors = tmp_path / "anchors.jsonl"
    program = f"""
from myometrics_testing.site_processes import hide_celery
hide_celery()
import django
from django.conf import settings
settings.MYOMETRICS_AUDIT = {{"ANCHOR_FILE": {str(anchors)!r}}}
django.setup()
from django.core.management import call_command
from myometrics_audit import audit
call_command("migrate", verbosity=0)
audit.record(actor=None, action="a", resource=("b", "c"))
call_command("jobs_run", "--once")
call_command("jobs_run", "--once")
call_command("audit_verify")
"""
    environment = {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
        "DJANGO_SETTINGS_MODULE": "audit_test_settings",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"1 entries, 1 leaves and 1 seals. No problems." in done.stdout
    assert [json.loads(line)["number"] for line in anchors.read_text().splitlines()] == [1]
