"""What the doctor says of notifications, one hole at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from myometrics_core.times import utc_now
from myometrics_notifications import doctor
from myometrics_notifications.models import ExportFile, Message

pytestmark = pytest.mark.django_db


def states(examine: Any) -> dict[str, str]:
    return {found.name: found.state for found in examine()}


def make_message(person: Any, age: timedelta, state: str = "queued") -> Message:
    return Message.objects.create(
        kind="upload_completed",
        recipient=person,
        dedupe_key=f"{age}{state}",
        state=state,
        next_attempt_at=utc_now() - age,
    )


def test_mail_that_waits_too_long_is_a_problem(person):
    assert states(doctor.examine_outbox) == {"outbox": "ok", "failed mails": "ok"}
    make_message(person, timedelta(minutes=1))
    assert states(doctor.examine_outbox)["outbox"] == "ok"
    make_message(person, timedelta(hours=3))
    (found, *_) = doctor.examine_outbox()
    assert (found.state, found.summary) == ("problem", "2 mails wait, the oldest for 3 hours.")


def test_mail_that_was_given_up_is_a_warning(person):
    make_message(person, timedelta(), "dead")
    found = {one.name: one for one in doctor.examine_outbox()}
    assert found["failed mails"].state == "warning"
    assert person.email not in str(found)


def test_folder_of_exports_that_cannot_be_written_is_a_problem(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "not yet" / "there"
    assert states(doctor.examine_exports) == {"export storage": "ok"}
    (tmp_path / "file").write_text("")
    settings.MEDIA_ROOT = tmp_path / "file" / "below"
    assert states(doctor.examine_exports) == {"export storage": "problem"}


def test_export_that_was_given_up_is_a_warning(person):
    ExportFile.objects.create(
        user=person,
        export_format="csv",
        storage_name="a",
        state="dead",
        next_attempt_at=utc_now(),
    )
    assert states(doctor.examine_exports)["failed exports"] == "warning"
