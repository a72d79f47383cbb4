"""Property: for any events in any order, folded at any time, the report equals counting."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
import time_machine
from counting_one_by_one import assert_rollups_equal_facts, report_one_by_one
from django.contrib.auth import get_user_model
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from myometrics_analytics.facts import Origin, UploadEvent, uploads_merge
from myometrics_analytics.filters import Filters
from myometrics_analytics.models import Status, Upload
from myometrics_analytics.rollups import changes_fold, rollups_check
from myometrics_analytics.selectors import report_get
from myometrics_core.events import Event, publish

NOW = datetime(2024, 3, 1, 0, 0, 30, tzinfo=timezone.utc)
MOMENTS = [
    NOW,
    NOW - timedelta(seconds=30),
    NOW - timedelta(seconds=31),
    NOW - timedelta(days=1),
    datetime(2024, 2, 1, tzinfo=timezone.utc),
    datetime(2024, 1, 31, 23, 59, 59, 999999, tzinfo=timezone.utc),
    datetime(2023, 2, 28, 23, 59, 59, tzinfo=timezone.utc),
    NOW - timedelta(days=7),
    NOW - timedelta(days=14),
    NOW + timedelta(days=2),
]
ACTIONS = [
    "upload_created",
    "upload_processing",
    "upload_completed",
    "upload_failed",
    "analysis_ready",
]

values = st.fixed_dictionaries(
    {
        "user": st.integers(0, 2),
        "upload": st.sampled_from(["u1", "u2", "u3"]),
        "at": st.sampled_from(MOMENTS),
        "diagnosis": st.sampled_from([None, "Normal", "Infarct", "normal", "É", 7, " "]),
        "time": st.sampled_from([None, 0, 0.1, 45.6, -1, float("nan"), 86400]),
        "origin": st.sampled_from(["client", "client", "client", "server", "import", None]),
    }
)
event = st.tuples(st.just("event"), st.sampled_from(ACTIONS), values)
pulled = st.tuples(st.just("row"), st.sampled_from(list(Status)), values)
step = st.one_of(
    event,
    event,
    pulled,
    st.tuples(st.just("fold")),
    st.tuples(st.just("check")),
    st.tuples(st.just("delete"), st.integers(0, 2)),
)


def publish_event(users, action, what):
    publish(
        Event(
            id="test:1",
            actor_id=users[what["user"]],
            action=action,
            resource_type="upload",
            resource_id=what["upload"],
            occurred_at=what["at"],
            details={"diagnosis": what["diagnosis"], "processing_time": what["time"]},
            origin=what["origin"],
        )
    )


def merge_row(users, status, what):
    diagnosis = what["diagnosis"]
    uploads_merge(
        events=[
            UploadEvent(
                user_id=users[what["user"]],
                upload_id=what["upload"],
                uploaded_at=what["at"],
                status=status,
                origin=Origin.IMAGE_SERVICE,
                diagnosis=diagnosis if diagnosis in ("Normal", "Infarct") else None,
            )
        ]
    )


def make_users():
    make = get_user_model().objects.create_user
    return [make(email=f"p{number}@site.test").pk for number in range(3)]


def the_facts():
    names = [field.attname for field in Upload._meta.fields if field.name not in ("id",)]
    return sorted(map(str, Upload.objects.values_list(*names)))


def settings_of_analytics(**values):
    return override_settings(MYOMETRICS_ANALYTICS=values)


class AnyInterleaving(TestCase):
    @settings(max_examples=60)
    @given(
        steps=st.lists(step, max_size=25),
        limit=st.integers(1, 3),
        shown=st.sampled_from([1, 2, 200]),
    )
    def test_report_equals_counting_one_by_one(self, steps, limit, shown):
        chosen = {"UPLOADS_PER_USER_PER_DAY": limit, "DIAGNOSES_SHOWN": shown}
        with settings_of_analytics(**chosen):
            self.compare_after(steps)
            with settings_of_analytics(**chosen, COUNT_CLIENT_REPORTED=False):
                self.compare_after([])

    def compare_after(self, steps):
        users = make_users() if steps else []
        with time_machine.travel(NOW, tick=False):
            for kind, *rest in steps:
                if kind == "event":
                    publish_event(users, *rest)
                elif kind == "row":
                    merge_row(users, *rest)
                elif kind == "fold":
                    changes_fold()
                elif kind == "check":
                    assert rollups_check() == 0, "nothing ever needs repair"
                else:
                    get_user_model().objects.filter(pk=users[rest[0]]).delete()
            for days in (1, 2, 7, 30, 366):
                assert report_get(days=days) == report_one_by_one(days)
            for diagnosis in ("Normal", "Infarct"):
                assert report_get(days=30, filters=Filters(diagnosis=diagnosis)) == (
                    report_one_by_one(30, lambda upload, name=diagnosis: upload.diagnosis == name)
                )
            changes_fold()
            assert rollups_check() == 0
            if Upload.objects.exists():
                assert_rollups_equal_facts()

    @settings(max_examples=60)
    @given(data=st.data(), events=st.lists(st.one_of(event, pulled), min_size=1, max_size=12))
    def test_order_and_repetition_change_no_fact(self, data, events):
        users = make_users()
        apply = {"event": publish_event, "row": merge_row}
        for kind, what, details in events:
            apply[kind](users, what, details)
        first = the_facts()
        for upload in Upload.objects.all():
            upload.delete()
        again = data.draw(st.permutations(events + events[::2]))
        for kind, what, details in again:
            apply[kind](users, what, details)
        assert the_facts() == first


@pytest.mark.django_db
def test_merging_a_batch_equals_merging_one_by_one(make_user):
    user = make_user()
    events = [
        UploadEvent(
            user_id=user.pk,
            upload_id=f"u{number % 7}",
            uploaded_at=NOW - timedelta(hours=number),
            status=list(Status)[number % 3],
            origin=list(Origin)[number % 5],
            diagnosis=f"D{number % 4}",
        )
        for number in range(60)
    ]
    uploads_merge(events=events)
    at_once = the_facts()
    Upload.objects.all().delete()
    for item in reversed(events):
        uploads_merge(events=[item])
    assert the_facts() == at_once
