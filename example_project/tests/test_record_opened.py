"""The packages agree on the event of access outside the care team: from the entry to the mail."""

from __future__ import annotations

import pytest

from myometrics_audit import audit
from myometrics_audit.access_report import outside_care_team
from myometrics_core.events import bus, register_receiver
from myometrics_notifications import kinds
from myometrics_notifications.built_in_kinds import RecordOpened
from myometrics_notifications.models import Message

pytestmark = pytest.mark.django_db


@pytest.fixture
def _watched(monkeypatch):
    """Register what the app and the setting ``ADDITIONAL_KINDS`` register."""
    monkeypatch.setattr(bus, "_receivers", dict(bus._receivers))
    monkeypatch.setattr(kinds, "_kinds", dict(kinds._kinds))
    register_receiver(
        "audit access report",
        outside_care_team.receive_event,
        resource_types=outside_care_team.WATCHED_TYPES,
        batch_receiver=outside_care_team.receive_events,
    )
    kinds.register_kind(RecordOpened())


@pytest.mark.usefixtures("_watched")
def test_access_outside_the_care_team_queues_a_mail_to_the_patient(settings, django_user_model):
    users = django_user_model.objects
    patient = users.create_user(email="patient@clinic.example", password=None)
    physician = users.create_user(email="physician@clinic.example", password=None)
    settings.MYOMETRICS_AUDIT = {
        **settings.MYOMETRICS_AUDIT,
        "ACCESS_REPORT_NOTIFY": lambda entry: [patient],
    }
    for subject in ("p1", "p1", ""):
        audit.record(
            actor=physician,
            action="report_viewed",
            resource=("report", "r1"),
            data_subject=subject,
        )
    (message,) = Message.objects.filter(kind="record_opened")
    assert message.recipient_id == patient.pk
