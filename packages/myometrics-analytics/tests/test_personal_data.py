"""Section ``uploads`` of personal data: export and erasure."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from myometrics_analytics.models import PendingChange, Upload, UserRollup
from myometrics_analytics.rollups import changes_fold, rollups_check
from myometrics_core.personal_data import erase_user
from myometrics_core.personal_data.sections import personal_data_sections

pytestmark = pytest.mark.django_db
AT = datetime(2026, 1, 1, 10, tzinfo=timezone.utc)


def exported(user):
    section = next(item for item in personal_data_sections() if item.name == "uploads")
    return list(section.export(user))


def test_export_has_only_uploads_of_the_user(make_user, publish_upload):
    user, other = make_user(), make_user()
    publish_upload(user, "upload_completed", "u1", AT, filename="a.jpg", diagnosis="Normal",
         confidence=0.5, file_size=7, processing_time=1.5)  # fmt: skip
    publish_upload(other, "upload_completed", "u2", AT, filename="b.jpg")
    assert exported(user) == [
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


def test_erasure_leaves_no_row_of_the_user(make_user, publish_upload):
    user, other = make_user(), make_user()
    publish_upload(user, diagnosis="Normal")
    publish_upload(other, diagnosis="Normal")
    changes_fold()
    publish_upload(user, diagnosis="Late")
    erase_user(user)
    assert rollups_check() == 0
    changes_fold()
    assert rollups_check() == 0
    assert set(Upload.objects.values_list("user_id", flat=True)) == {other.pk}
    assert set(UserRollup.objects.values_list("user_id", flat=True)) == {other.pk}
    assert not PendingChange.objects.exists()


def test_erasure_anonymizes_pending_changes(make_user, publish_upload):
    user = make_user()
    publish_upload(user)
    erase_user(user)
    assert not PendingChange.objects.exclude(user=None).exists()


def test_erasure_is_complete_if_site_keeps_the_user_row(make_user, publish_upload, settings):
    settings.MYOMETRICS = {"ERASE_USER": f"{__name__}.keep"}
    user = make_user()
    publish_upload(user, "upload_completed", "u1", AT, filename="a.jpg")
    changes_fold()
    assert UserRollup.objects.filter(user=user).exists()
    erase_user(user)
    changes_fold()
    assert not Upload.objects.exists()
    assert not UserRollup.objects.exists()
    assert not rollups_check()


def keep(user):
    """Erase a user without deleting the row."""
