"""The section ``uploads`` of a person's data: exported in full, erased in full."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from myometrics_analytics.folding import changes_fold
from myometrics_analytics.models import PendingChange, Upload, UserRollup
from myometrics_analytics.self_check import rollups_check
from myometrics_core.personal_data import erase_user, personal_data_sections

pytestmark = pytest.mark.django_db
AT = datetime(2026, 1, 1, 10, tzinfo=timezone.utc)


def exported(person):
    section = next(item for item in personal_data_sections() if item.name == "uploads")
    return list(section.export(person))


def test_the_export_holds_the_persons_uploads_and_nobody_elses(make_person, tell):
    person, other = make_person(), make_person()
    tell(person, "upload_completed", "u1", AT, filename="a.jpg", diagnosis="Normal",
         confidence=0.5, file_size=7, processing_time=1.5)  # fmt: skip
    tell(other, "upload_completed", "u2", AT, filename="b.jpg")
    assert exported(person) == [
        {
            "id": "u1",
            "filename": "a.jpg",
            "timestamp": AT,
            "status": "completed",
            "diagnosis": "Normal",
            "confidence": 0.5,
            "file_size": 7,
            "processing_time": 1.5,
        }
    ]


def test_erasure_leaves_no_row_that_names_the_person(make_person, tell):
    person, other = make_person(), make_person()
    tell(person, diagnosis="Normal")
    tell(other, diagnosis="Normal")
    changes_fold()
    tell(person, diagnosis="Late")
    erase_user(person)
    assert rollups_check() == 0
    changes_fold()
    assert rollups_check() == 0
    assert set(Upload.objects.values_list("user_id", flat=True)) == {other.pk}
    assert set(UserRollup.objects.values_list("user_id", flat=True)) == {other.pk}
    assert not PendingChange.objects.exists()


def test_pending_changes_forget_the_person_at_once(make_person, tell):
    person = make_person()
    tell(person)
    erase_user(person)
    assert not PendingChange.objects.exclude(user=None).exists()


def test_erasing_leaves_nothing_where_the_host_keeps_the_users_row(make_person, tell, settings):
    settings.MYOMETRICS = {"ERASE_USER": f"{__name__}.keep"}
    person = make_person()
    tell(person, "upload_completed", "u1", AT, filename="a.jpg")
    changes_fold()
    assert UserRollup.objects.filter(user=person).exists()
    erase_user(person)
    changes_fold()
    assert not Upload.objects.exists()
    assert not UserRollup.objects.exists()
    assert not rollups_check()


def keep(user):
    """Erase a user without deleting the row."""
