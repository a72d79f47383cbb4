"""Examinations of the outbox and the exports."""

from __future__ import annotations

from datetime import timedelta

import pytest

from myometrics_core.times import utc_now
from myometrics_notifications import doctor
from myometrics_notifications.models import ExportFile, Message

pytestmark = pytest.mark.django_db


def states(examine):
    return {found.name: found.state for found in examine()}


def make_message(user, age, state="queued"):
    return Message.objects.create(
        kind="upload_completed",
        recipient=user,
        dedupe_key=f"{age}{state}",
        state=state,
        next_attempt_at=utc_now() - age,
    )


def test_mail_waiting_too_long_is_a_problem(user):
    assert states(doctor.examine_outbox) == {"outbox": "ok", "failed mails": "ok"}
    make_message(user, timedelta(minutes=1))
    assert states(doctor.examine_outbox)["outbox"] == "ok"
    make_message(user, timedelta(hours=3))
    (found, *_) = doctor.examine_outbox()
    assert (found.state, found.summary) == ("problem", "2 mails wait, the oldest for 3 hours.")


def test_dead_letter_is_a_warning(user):
    make_message(user, timedelta(), "dead")
    found = {one.name: one for one in doctor.examine_outbox()}
    assert found["failed mails"].state == "warning"
    assert user.email not in str(found)


def test_unwritable_export_folder_is_a_problem(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "not yet" / "there"
    assert states(doctor.examine_exports) == {"export storage": "ok"}
    (tmp_path / "file").write_text("")
    settings.MEDIA_ROOT = tmp_path / "file" / "below"
    assert states(doctor.examine_exports) == {"export storage": "problem"}


def test_dead_export_is_a_warning(user):
    ExportFile.objects.create(
        user=user,
        export_format="csv",
        storage_name="a",
        state="dead",
        next_attempt_at=utc_now(),
    )
    assert states(doctor.examine_exports)["failed exports"] == "warning"
