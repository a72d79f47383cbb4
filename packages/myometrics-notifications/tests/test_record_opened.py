"""The kind ``record_opened``, which a site adds by its setting."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.apps import apps
from django.core import checks, mail
from django.core.checks import run_checks
from job_runs import deliver
from specified import SETTINGS_URL

from myometrics_core.events import publish
from myometrics_core.times import utc_now
from myometrics_notifications.built_in_kinds import ADDITIONAL_KINDS, RecordOpened
from myometrics_notifications.conf import KIND_NAMES
from myometrics_notifications.kinds import kind_named, register_kind
from myometrics_notifications.models import Message

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("use_kind")]


@pytest.fixture
def opened(make_event, make_user):
    """Publish that a user outside the care team opened the records of ``users``."""
    outsider = make_user()

    def make(*users, **fields):
        values = {
            "id": f"access_report:{Message.objects.count() + 1}",
            "actor_id": outsider.pk,
            "action": "record_opened_outside_care_team",
            "resource_type": "audit_log",
            "resource_id": "17",
            "details": {"users_to_notify": [str(user.pk) for user in users]},
        }
        publish(make_event(**{**values, **fields}))

    return make


def test_setting_accepts_each_additional_kind():
    assert {kind.name for kind in ADDITIONAL_KINDS} == set(KIND_NAMES)


def test_kind_is_off_by_default(opened, user, client_of):
    assert kind_named("record_opened") is None
    opened(user)
    assert not Message.objects.exists()
    assert "record_opened" not in client_of(user).get(SETTINGS_URL).json()


def test_setting_adds_the_kind_with_a_switch(settings, opened, user, client_of):
    settings.MYOMETRICS_NOTIFICATIONS = {"ADDITIONAL_KINDS": ["record_opened"]}
    apps.get_app_config("myometrics_notifications").ready()
    assert client_of(user).get(SETTINGS_URL).json()["record_opened"] is True
    opened(user)
    assert Message.objects.get().recipient_id == user.pk


@pytest.mark.parametrize("value", [["other"], "record_opened", [{}], None])
def test_invalid_setting_is_reported(settings, value):
    settings.MYOMETRICS_NOTIFICATIONS = {"ADDITIONAL_KINDS": value}
    apps.get_app_config("myometrics_notifications").ready()
    assert kind_named("record_opened") is None
    found = [one for one in run_checks() if "ADDITIONAL_KINDS" in one.msg]
    assert [one.level for one in found] == [checks.ERROR]


def test_mail_says_nothing_about_the_access(opened, user):
    register_kind(RecordOpened())
    opened(user)
    deliver(Message.objects.get())
    sent = mail.outbox[-1]
    html, _ = sent.alternatives[0]
    assert sent.to == [user.email]
    assert sent.subject == "MyoMetrics: your record was opened outside your care team"
    for text in (sent.body, html):
        assert "A user outside your care team has opened your record" in text
        assert "https://clinic.example" in text
    assert list(Message.objects.get().context) == ["at"]


def test_user_gets_one_mail_a_day(opened, user, make_user):
    register_kind(RecordOpened())
    today = utc_now().replace(hour=0, minute=1)
    other = make_user()
    with time_machine.travel(today + timedelta(hours=12)):  # no event is a day old
        for number, at in enumerate(
            (today, today + timedelta(seconds=5), today - timedelta(minutes=2))
        ):
            opened(user, other, id=f"access_report:{number}", occurred_at=at)
    assert Message.objects.filter(recipient=user).count() == 2
    assert Message.objects.filter(recipient=other).count() == 2


@pytest.mark.parametrize("source", ["audit", "auth"])
def test_events_of_other_sources_are_ignored(opened, user, source):
    register_kind(RecordOpened())
    opened(user, id=f"{source}:1")
    assert not Message.objects.exists()
