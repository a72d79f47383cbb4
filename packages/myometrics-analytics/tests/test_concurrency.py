"""Concurrent writers, folds, self-checks, deletions and readers."""

from __future__ import annotations

import random
import threading
from datetime import datetime, timedelta, timezone

import pytest
from counting_one_by_one import assert_rollups_equal_facts, report_one_by_one
from django.contrib.auth import get_user_model
from django.db import connection

from myometrics_analytics.models import PendingChange, Upload
from myometrics_analytics.rollups import changes_fold, rollups_check
from myometrics_analytics.rollups.rollup_rows import rollup_lock
from myometrics_analytics.selectors import report_get
from myometrics_core.db import atomic_write
from myometrics_testing.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)
ACTIONS = ["upload_created", "upload_completed", "upload_failed", "analysis_ready"]


@pytest.fixture
def publish_committed(publish_upload):
    """Publish and commit, as a request does."""

    def events(*args, **details):
        with atomic_write():
            publish_upload(*args, **details)

    return events


def no_errors(outcomes):
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []


def settle_and_compare():
    assert report_get(days=90) == report_one_by_one(90)
    changes_fold()
    assert not PendingChange.objects.exists()
    assert rollups_check() == 0
    assert_rollups_equal_facts()


def test_concurrent_events_of_one_upload_create_one_row(user, publish_committed, run_concurrently):
    for number in range(5):
        calls = [
            lambda n=number, action=action, m=minute: publish_committed(
                user,
                action,
                f"u{n}",
                datetime(2026, 1, 1, 0, m, tzinfo=timezone.utc),
                diagnosis=f"D{m}",
            )
            for minute, action in enumerate(ACTIONS * 2)
        ]
        no_errors(run_concurrently(calls))
        upload = Upload.objects.get(upload_id=f"u{number}")
        assert (upload.status, upload.diagnosis) == ("completed", "D3")
        assert upload.uploaded_at.minute == 0
    settle_and_compare()


def test_concurrent_writers_folds_checks_and_deletions(
    make_user, publish_committed, run_concurrently, caplog
):
    users = [make_user() for _ in range(6)]
    now = datetime.now(timezone.utc)

    def write(seed):
        chance = random.Random(seed)
        for _ in range(25):
            publish_committed(
                chance.choice(users),
                chance.choice(ACTIONS),
                f"u{chance.randrange(12)}",
                now - timedelta(days=chance.randrange(60)),
                diagnosis=chance.choice(["Normal", "Infarction", None]),
                processing_time=chance.choice([None, 0.1, 45.6]),
            )

    def fold():
        for _ in range(12):
            changes_fold()

    def check():
        return sum(rollups_check() for _ in range(3))

    def delete():
        for user in users[:2]:
            get_user_model().objects.get(pk=user.pk).delete()

    writers = [lambda seed=seed: write(seed) for seed in range(4)]
    outcomes = run_concurrently([*writers, fold, fold, check, delete])
    no_errors(outcomes)
    assert outcomes[6] == 0, "a self-check amid writers found something to repair"
    assert "failed on" not in caplog.text
    assert not Upload.objects.filter(user_id__in=[user.pk for user in users[:2]]).exists()
    settle_and_compare()


def test_fold_skips_changes_of_user_being_deleted(
    make_user, publish_committed, run_concurrently, database_vendor
):
    leaving, staying = make_user(), make_user()
    for user in (leaving, staying):
        publish_committed(user, "upload_completed", diagnosis="Normal")
    changes_fold()
    for user in (leaving, staying):
        publish_committed(user, "upload_failed")
    is_deleted, is_folded = threading.Event(), threading.Event()
    waits = PATIENCE if database_vendor == "postgresql" else 0.2  # SQLite has one writer at a time

    def delete():
        with atomic_write():
            leaving.delete()
            is_deleted.set()
            return is_folded.wait(waits)

    def fold():
        is_deleted.wait(PATIENCE)
        folded = changes_fold()
        is_folded.set()
        return folded

    outcomes = run_concurrently([delete, fold])
    no_errors(outcomes)
    assert outcomes == [True, 1] or database_vendor == "sqlite"
    settle_and_compare()


def test_report_is_exact_during_a_fold(make_user, publish_committed, run_concurrently, settings):
    settings.MYOMETRICS_ANALYTICS = {"FOLD_BATCH": 7}
    now = datetime.now(timezone.utc)
    for number in range(150):
        if number % 15 == 0:
            user = make_user()
        publish_committed(
            user,
            ACTIONS[number % 4],
            at=now - timedelta(days=number % 40),
            diagnosis=f"D{number % 3}",
            processing_time=number,
        )
    expected = report_one_by_one(30)
    is_folded = threading.Event()

    def read():
        answers = [report_get(days=30)]
        while not is_folded.is_set():
            answers.append(report_get(days=30))
        return answers

    def fold():
        changes_fold()
        is_folded.set()

    read_by_two = run_concurrently([read, read, fold])[:2]
    assert all(answer == expected for answers in read_by_two for answer in answers)
    assert report_get(days=30) == expected


def test_writers_do_not_wait_for_a_fold(user, publish_committed, run_concurrently, database_vendor):
    is_written = threading.Event()
    waits = PATIENCE if database_vendor == "postgresql" else 0.2  # SQLite has one writer at a time

    def hold():
        with rollup_lock():
            return is_written.wait(waits)

    def write():
        publish_committed(user)
        is_written.set()

    outcomes = run_concurrently([hold, write])
    no_errors(outcomes)
    assert outcomes[0] is True or database_vendor == "sqlite"
    assert Upload.objects.count() == 1


def test_writers_of_one_day_do_not_block_each_other(
    make_user, publish_committed, run_concurrently, database_vendor
):
    first, second = make_user(), make_user()
    is_written = threading.Event()
    waits = PATIENCE if database_vendor == "postgresql" else 0.2

    def hold():
        with atomic_write():
            publish_committed(first, diagnosis="Normal")
            return is_written.wait(waits)

    def write():
        publish_committed(second, diagnosis="Normal")
        is_written.set()

    outcomes = run_concurrently([hold, write])
    no_errors(outcomes)
    assert outcomes[0] is True or database_vendor == "sqlite"
    assert report_get(days=1)["system_health"]["total_uploads"] == 2


def test_rolled_back_event_is_not_counted(user, publish_upload):
    class Broken(Exception):
        pass

    with pytest.raises(Broken), atomic_write():
        publish_upload(user)
        raise Broken
    assert report_get(days=1)["system_health"]["total_uploads"] == 0
    assert not PendingChange.objects.exists()


def test_facts_and_pending_changes_are_committed_together(user, publish_committed):
    publish_committed(user, "upload_completed", diagnosis="Normal")
    connection.close()
    assert report_get(days=1) == report_one_by_one(1)
