"""Upload facts from events: any order, repetition, invalid values."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta, timezone

import pytest
from conftest import make_event
from django.db import connection
from django.test.utils import CaptureQueriesContext

from myometrics_analytics.models import PendingChange, Upload
from myometrics_core.events import Event, publish, publish_many

pytestmark = pytest.mark.django_db

EARLY = datetime(2026, 1, 1, 10, tzinfo=timezone.utc)
LATE = EARLY + timedelta(days=2)


def the_fact():
    upload = Upload.objects.get()
    return {
        "status": upload.status,
        "diagnosis": upload.diagnosis,
        "filename": upload.filename,
        "at": upload.uploaded_at,
        "day": upload.day.isoformat(),
    }


def test_upload_created_is_processing(user, publish_upload):
    publish_upload(user, filename="a.jpg", file_size=2048576, at=EARLY)
    assert the_fact() == {
        "status": "processing",
        "diagnosis": "",
        "filename": "a.jpg",
        "at": EARLY,
        "day": "2026-01-01",
    }


def test_upload_created_with_diagnosis_is_completed(user, publish_upload):
    publish_upload(user, diagnosis="Normal", confidence=0.93, processing_time=45.6)
    upload = Upload.objects.get()
    assert (upload.status, upload.diagnosis) == ("completed", "Normal")
    assert (upload.confidence, upload.processing_time) == (0.93, 45.6)


@pytest.mark.parametrize("diagnosis", [None, "", "  ", 7, ["Normal"], {}, True, "x\x00", "\ud800"])
def test_upload_created_with_invalid_diagnosis_is_processing(user, publish_upload, diagnosis):
    publish_upload(user, diagnosis=diagnosis)
    assert the_fact()["status"] == "processing"
    assert the_fact()["diagnosis"] == ""


EVENTS = [
    ("upload_created", EARLY + timedelta(hours=3), {"filename": "b.jpg", "diagnosis": "A created"}),
    ("upload_processing", EARLY, {"diagnosis": "0 not counted", "filename": "z.jpg"}),
    ("upload_failed", EARLY + timedelta(hours=1), {"diagnosis": "0 not counted"}),
    ("upload_completed", LATE, {"diagnosis": "B completed", "processing_time": 3}),
    ("analysis_ready", LATE, {"diagnosis": "D ready"}),
    ("analysis_ready", LATE, {"diagnosis": "C ready", "processing_time": 5}),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(6)))[::7])
def test_events_in_any_order_give_the_same_fact(user, publish_upload, order):
    for position in (*order, *order[::2]):
        action, at, details = EVENTS[position]
        publish_upload(user, action, "u1", at, **details)
    assert the_fact() == {
        "status": "completed",
        "diagnosis": "C ready",
        "filename": "b.jpg",
        "at": EARLY,
        "day": "2026-01-01",
    }
    assert Upload.objects.get().processing_time == 5


@pytest.mark.parametrize(
    ("actions", "status"),
    [
        (["upload_created"], "processing"),
        (["upload_failed", "upload_processing"], "failed"),
        (["upload_completed", "upload_failed"], "completed"),
        (["analysis_ready", "upload_created"], "completed"),
    ],
)
def test_completed_wins_over_failed_over_processing(user, publish_upload, actions, status):
    for action in actions:
        publish_upload(user, action, "u1")
    assert the_fact()["status"] == status


@pytest.mark.parametrize(
    "time", [-1, -0.001, 86400.001, 10**400, float("inf"), float("nan"), "45", True, None, [], {}]
)
def test_event_with_invalid_processing_time_has_none(user, publish_upload, time):
    publish_upload(user, "upload_completed", processing_time=time, filename="kept.jpg")
    upload = Upload.objects.get()
    assert (upload.processing_time, upload.filename) == (None, "kept.jpg")


@pytest.mark.parametrize("time", [0, 86400, 0.1, 45.6])
def test_event_with_valid_processing_time_keeps_it(user, publish_upload, time):
    publish_upload(user, "upload_completed", processing_time=time)
    assert Upload.objects.get().processing_time == time


@pytest.mark.parametrize("name", [5, None, ["a"], {"a": 1}, "\x00", "\udfff", "x" * 60000])
def test_event_with_invalid_filename_has_none(user, publish_upload, name):
    publish_upload(user, filename=name, file_size="big", confidence="high")
    upload = Upload.objects.get()
    assert (upload.filename, upload.file_size, upload.confidence) == ("", None, None)


@pytest.mark.parametrize("size", [-1, 2**63, 1.5, True, float("nan")])
def test_event_with_invalid_file_size_has_none(user, publish_upload, size):
    publish_upload(user, file_size=size)
    assert Upload.objects.get().file_size is None


@pytest.mark.parametrize("name", ["", " ", "a\x00b", "\ud800", "x" * 101])
def test_event_with_invalid_upload_id_is_ignored(user, name):
    publish(
        Event(
            id="test:1",
            actor_id=user.pk,
            action="upload_created",
            resource_type="upload",
            resource_id=name,
            occurred_at=EARLY,
        )
    )
    assert not Upload.objects.exists()


@pytest.mark.parametrize("action", ["upload_viewed", "", "UPLOAD_CREATED"])
def test_event_with_other_action_is_ignored(user, publish_upload, action):
    publish_upload(user, action)
    assert not Upload.objects.exists()


@pytest.mark.parametrize("user_id", [None, "not a key", 7])
def test_event_of_unknown_user_is_ignored(db, publish_upload, user_id):
    publish_upload(user_id)
    assert not Upload.objects.exists()
    assert not PendingChange.objects.exists()


def test_upload_ids_are_unique_per_user(make_user, publish_upload):
    first, second = make_user(), make_user()
    publish_upload(first, "upload_created", "u1", filename="first.jpg")
    publish_upload(second, "upload_completed", "u1", diagnosis="Normal")
    facts = {upload.user_id: upload for upload in Upload.objects.all()}
    assert (facts[first.pk].status, facts[first.pk].filename) == ("processing", "first.jpg")
    assert (facts[second.pk].status, facts[second.pk].filename) == ("completed", "")


def test_repeated_event_adds_no_pending_change(user, publish_upload):
    publish_upload(user, "upload_completed", "u1", EARLY, diagnosis="Normal")
    pending = PendingChange.objects.count()
    publish_upload(user, "upload_completed", "u1", EARLY, diagnosis="Normal")
    assert PendingChange.objects.count() == pending == 1


@pytest.mark.parametrize("number", [2, 400])
def test_batch_of_updates_needs_few_statements(user, number):
    def events(action, **details):
        return [make_event(user, action, f"u{n}", EARLY, **details) for n in range(number)]

    publish_many(events("upload_created"))
    with CaptureQueriesContext(connection) as queries:
        publish_many(events("upload_completed", diagnosis="Normal", processing_time=2))

    # SQLite takes a few statements for 400 rows.
    assert len(queries) <= (11 if connection.vendor == "postgresql" else 22)
    facts = set(Upload.objects.values_list("status", "diagnosis", "processing_us", "day"))
    assert facts == {("completed", "Normal", 2_000_000, EARLY.date())}
    assert Upload.objects.count() == number
