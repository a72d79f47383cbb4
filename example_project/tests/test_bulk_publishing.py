"""Entries recorded together have the effects of entries recorded one by one, in few statements."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.core import mail
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from myometrics_analytics.models import (
    ClientReports,
    DailyRollup,
    DayRollup,
    Upload,
    UserRollup,
)
from myometrics_analytics.rollups import changes_fold
from myometrics_audit import audit
from myometrics_audit.models import AuditLog, Leaf
from myometrics_auth.models import Session
from myometrics_core.events import Event, publish, publish_many
from myometrics_core.jobs import run_jobs
from myometrics_core.personal_data import erase_user
from myometrics_notifications.models import Message, NotificationSettings
from myometrics_notifications.services import notification_settings_update

NOW = datetime(2025, 8, 19, 12, tzinfo=timezone.utc)
SWITCHES = ["email_notifications", "upload_completed", "analysis_ready"]
USERS = 3

happened = st.fixed_dictionaries(
    {
        "actor": st.sampled_from([0, 0, 0, 0, 1, 2, None, "gone"]),
        "action": st.sampled_from(
            [
                *("upload_created", "upload_processing", "upload_completed", "upload_completed"),
                *("upload_failed", "analysis_ready", "viewed"),
            ]
        ),
        "resource_type": st.sampled_from(["upload", "upload", "upload", "report"]),
        "resource_id": st.sampled_from(["u1", "u2", "u3", "u4", "see http://evil.example"]),
        "occurred_at": st.sampled_from(
            [NOW, NOW, NOW - timedelta(seconds=5), NOW - timedelta(days=1), NOW - timedelta(days=9)]
        ),
        "diagnosis": st.sampled_from([None, "Normal", "Infarct", " ", 7]),
        "processing_time": st.sampled_from([None, 0.5, -1, 90_000]),
        "origin": st.sampled_from([*["client"] * 6, "server", "import", None]),
    }
)
switched_off = st.lists(st.tuples(st.integers(0, USERS - 1), st.sampled_from(SWITCHES)))


def make_user(email):
    return get_user_model().objects.create_user(email=email, password=None)


def in_batches(items, sizes):
    sizes = iter(sizes)
    while items:
        size = next(sizes, len(items))
        yield items[:size]
        items = items[size:]


def rows(model, *left_out):
    names = [field.attname for field in model._meta.concrete_fields if field.name not in left_out]
    return list(model.objects.order_by("pk").values_list(*names))


def effects():
    """The rows that all packages write for the events, and the resulting mails."""
    outbox = {
        "entries": rows(AuditLog, "id", "nonce"),
        "leaves": Leaf.objects.count(),
        "facts": sorted(map(str, rows(Upload, "id"))),
        "reports": sorted(map(str, rows(ClientReports, "id"))),
        "messages": rows(Message, "id", "mail_uuid"),
    }
    changes_fold()
    mail.outbox.clear()
    run_jobs("myometrics_notifications.deliver")
    return {
        **outbox,
        "days": rows(DayRollup),
        "daily": sorted(map(str, rows(DailyRollup, "id"))),
        "users": rows(UserRollup),
        "mails": [(sent.to, sent.subject, sent.body) for sent in mail.outbox],
        "delivered": list(Message.objects.order_by("pk").values_list("kind", "state")),
    }


def effects_of(act):
    with transaction.atomic():
        act()
        found = effects()
        transaction.set_rollback(True)
    return found


class RecordedTogether(TestCase):
    @settings(
        max_examples=20,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes
    )
    @given(
        events=st.lists(happened, min_size=5, max_size=16),
        sizes=st.lists(st.integers(1, 14), max_size=3),
        off=switched_off,
        limit=st.integers(1, 2),
        cap=st.integers(1, 3),
    )
    def test_record_many_has_effects_of_single_records(self, events, sizes, off, limit, cap):
        with (
            time_machine.travel(NOW, tick=False),
            override_settings(
                MYOMETRICS_ANALYTICS={"UPLOADS_PER_USER_PER_DAY": limit},
                MYOMETRICS_NOTIFICATIONS={"MAILS_PER_USER_PER_HOUR": cap},
            ),
        ):
            actors = self.make_users(off)
            entries = [self.entry(event, actors) for event in events if event["actor"] != "gone"]
            self.assert_same(
                lambda: [audit.record_many([entry]) for entry in entries],
                lambda: [audit.record_many(batch) for batch in in_batches(entries, sizes)],
            )
            # From another source, with a repeated id.
            activities = [
                self.activity(event, number, actors) for number, event in enumerate(events)
            ]
            activities += activities[::3]
            self.assert_same(
                lambda: [publish(activity) for activity in activities],
                lambda: [publish_many(batch) for batch in in_batches(activities, sizes)],
            )

    def assert_same(self, one_by_one, together):
        expected = effects_of(one_by_one)
        found = effects_of(together)
        for name, value in expected.items():
            assert found[name] == value, name

    def make_users(self, off):
        *users, leaving = [make_user(f"p{number}@clinic.example") for number in range(USERS + 1)]
        gone = leaving.pk
        leaving.delete()
        for number, switch in off:
            notification_settings_update(user=users[number], switches={switch: False})
        # Keys may be text.
        return {0: str(users[0].pk), 1: users[1].pk, 2: users[2].pk, None: None, "gone": gone}

    def entry(self, event, actors):
        return audit.NewEntry(
            actor_id=actors[event["actor"]],
            details=self.details(event),
            **{
                name: event[name]
                for name in ("action", "resource_type", "resource_id", "occurred_at", "origin")
            },
        )

    def activity(self, event, number, actors):
        return Event(
            id=f"other:{number}",
            actor_id=actors[event["actor"]],
            # Too long for the log: only this event is not recorded.
            action="x" * 51 if event["action"] == "viewed" else event["action"],
            resource_type=event["resource_type"],
            resource_id=event["resource_id"],
            occurred_at=event["occurred_at"],
            details=self.details(event),
            origin=event["origin"],
        )

    def details(self, event):
        return {"diagnosis": event["diagnosis"], "processing_time": event["processing_time"]}


def completed(user, numbers, **values):
    return [
        audit.NewEntry(
            actor_id=user.pk,
            action="upload_completed",
            resource_type="upload",
            resource_id=f"upload_{number}",
            details={"diagnosis": "Normal", "processing_time": 2},
            **values,
        )
        for number in numbers
    ]


def statements(act):
    with CaptureQueriesContext(connection) as captured:
        act()
    return [query["sql"] for query in captured]


@pytest.mark.django_db
@pytest.mark.parametrize("origin", ["server", "client"])
def test_record_many_uses_constant_statements_per_batch(doctor, origin, settings):
    settings.MYOMETRICS_ANALYTICS = {"UPLOADS_PER_USER_PER_DAY": 100_000}

    def cost(first, end):
        entries = completed(doctor, range(first, end), origin=origin)
        return len(statements(lambda: audit.record_many(entries)))

    cost(0, 2)
    batch = cost(1000, 1500)
    assert cost(2000, 3000) <= 2 * batch
    # SQLite takes a few statements for 500 rows.
    assert batch <= (30 if connection.vendor == "postgresql" else 70)
    if connection.vendor == "postgresql":
        assert cost(4000, 4100) == batch
    # The same uploads again: users are not notified twice.
    assert cost(1000, 1500) <= batch
    assert Message.objects.count() == Upload.objects.count()


@pytest.mark.django_db
def test_user_erasure_uses_constant_statements():
    def cost(number):
        user = make_user(f"p{number}@clinic.example")
        audit.record_many(completed(user, range(number)))
        Session.objects.bulk_create(
            Session(user=user, expires_at=NOW + timedelta(days=900)) for _ in range(number)
        )
        changes_fold()
        NotificationSettings.objects.create(user=user)
        return statements(lambda: erase_user(user))

    cost(1)  # looks up the content type, unless an earlier test has
    few, many = cost(3), cost(300)
    assert len(many) == len(few), "\n".join(many)
