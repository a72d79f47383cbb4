"""Events for access outside the care team, as the site's function decides."""

from __future__ import annotations

import pytest

from myometrics_audit import audit
from myometrics_audit.access_report import outside_care_team
from myometrics_audit.models import AuditLog
from myometrics_core.events import bus, is_awaited, register_receiver

pytestmark = pytest.mark.django_db


@pytest.fixture
def published(monkeypatch):
    """The events that other packages receive."""
    monkeypatch.setattr(bus, "_receivers", dict(bus._receivers))
    events = []
    register_receiver("test", events.append, except_sources=("audit",))
    return events


@pytest.fixture
def patient(django_user_model):
    return django_user_model.objects.create_user(email="p1@patient.example")


@pytest.fixture
def notify(settings, patient):
    """The site's function: ``p1`` has no care team."""

    def users_to_notify(entry):
        return [patient] if entry.data_subject == "p1" else []

    settings.MYOMETRICS_AUDIT = {
        **settings.MYOMETRICS_AUDIT,
        "ACCESS_REPORT_NOTIFY": users_to_notify,
    }


def viewed(actor, subject="p1"):
    return audit.record(
        actor=actor, action="report_viewed", resource=("report", "r1"), data_subject=subject
    )


def test_access_outside_the_care_team_publishes_an_event(notify, published, user, patient):
    entry = viewed(user)
    (event,) = published
    assert event.id == f"access_report:{entry.pk}"
    assert (event.action, event.actor_id) == ("record_opened_outside_care_team", user.pk)
    assert (event.resource_type, event.resource_id) == ("audit_log", str(entry.pk))
    assert event.details == {"users_to_notify": [str(patient.pk)]}
    assert event.occurred_at == entry.timestamp


def test_event_is_recorded_without_the_data_subject(notify, user):
    viewed(user)
    entry = AuditLog.objects.get(action="record_opened_outside_care_team")
    assert entry.user == user
    assert entry.data_subject == ""


@pytest.mark.parametrize("subject", ["p2", ""])
def test_other_access_publishes_nothing(notify, published, user, subject):
    viewed(user, subject)
    assert published == []


def test_patients_are_not_notified_of_their_own_access(notify, published, patient):
    viewed(patient)
    assert published == []


def test_function_may_return_keys_as_text_and_none(settings, published, user, patient):
    settings.MYOMETRICS_AUDIT = {
        **settings.MYOMETRICS_AUDIT,
        "ACCESS_REPORT_NOTIFY": lambda entry: [None, str(user.pk), str(patient.pk)],
    }
    viewed(user)
    assert [event.details["users_to_notify"] for event in published] == [[str(patient.pk)]]


@pytest.mark.parametrize(
    "action",
    [
        "patient_access_denied",
        "report_export_failed",
        "access_report_viewed",
        "legal_hold_placed",
        "legal_hold_released",
        "emergency_access_granted",
        "emergency_access_ended",
    ],
)
def test_entries_that_are_no_access_publish_nothing(notify, published, user, action):
    audit.record(actor=user, action=action, resource=("report", "r1"), data_subject="p1")
    assert published == []


def test_entries_of_the_background_publish_nothing(notify, published):
    viewed(None)
    assert published == []


def test_many_entries_publish_an_event_each(notify, published, user):
    entries = audit.record_many(
        audit.entry(actor=user, action="listed", resource=("report", number), data_subject=subject)
        for number, subject in enumerate(["p1", "p2", "", "p1"])
    )
    assert [event.id for event in published] == [
        f"access_report:{entries[0].pk}",
        f"access_report:{entries[3].pk}",
    ]


def test_error_of_the_function_does_not_affect_the_entry(settings, user, caplog):
    def fail(entry):
        raise RuntimeError("broken")

    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ACCESS_REPORT_NOTIFY": fail}
    viewed(user)
    assert AuditLog.objects.count() == 1
    assert "audit access report failed" in caplog.text


def test_site_without_the_function_pays_nothing(user, django_assert_num_queries):
    assert "report" not in outside_care_team.WATCHED_TYPES
    assert not is_awaited(source="audit", resource_type="report")
