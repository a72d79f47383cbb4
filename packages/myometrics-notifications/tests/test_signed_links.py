"""Links in mails that people have kept go on working, whatever becomes of the code."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from rest_framework.test import APIClient

from myometrics_core.times import utc_now
from myometrics_notifications.models import ExportFile, NotificationSettings

pytestmark = pytest.mark.django_db

PERSON = UUID("6f9619ff-8b86-4011-b42d-00c04fc964ff")
UNSUBSCRIBE = (
    "/api/notifications/unsubscribe/?token=WyI2Zjk2MTlmZi04Yjg2LTQwMTEtYjQyZC0wMGMwNGZjOTY0ZmYiLCJ"
    "1cGxvYWRfY29tcGxldGVkIl0%3A1xVImJ%3AB9NqerqR-oSW4ut4WYzVbscGqjlg5MgyeV08ijNZ2rg"
)
EXPORT = (
    "/api/notifications/exports/?token="
    "NDcxMQ%3A1xVImK%3AfZHBMYNOrZNc_EHqh6UHZtBFK9CFT0cuYuedumXGSFg"
)


@pytest.fixture(autouse=True)
def _the_site_of_then(settings, make_person):
    settings.SECRET_KEY = "the key of a site that sent mails before"
    make_person(pk=PERSON)


def test_the_unsubscribe_link_of_a_mail_from_0_1_works():
    answer = APIClient().post(UNSUBSCRIBE)
    assert answer.status_code == 200
    assert NotificationSettings.objects.get().upload_completed is False


@pytest.mark.usefixtures("media")
def test_the_export_link_of_a_mail_from_0_1_works(settings):
    settings.MYOMETRICS_NOTIFICATIONS = {"EXPORT_LIFETIME": timedelta(days=36_500)}
    ExportFile.objects.create(
        pk=4711,
        user_id=PERSON,
        export_format="csv",
        storage_name=default_storage.save("export.csv", ContentFile(b"a,b\n")),
        state=ExportFile.State.READY,
        next_attempt_at=utc_now(),
        expires_at=utc_now() + timedelta(days=1),
    )
    assert APIClient().get(EXPORT).getvalue() == b"a,b\n"


def test_links_of_before_a_rotation_of_the_secret_key_work_while_it_is_a_fallback(settings):
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "new" * 20
    assert APIClient().post(UNSUBSCRIBE).status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert APIClient().post(UNSUBSCRIBE).status_code == 404


def test_neither_link_serves_for_the_other():
    for link, other in ((UNSUBSCRIBE, EXPORT), (EXPORT, UNSUBSCRIBE)):
        address, token = link.partition("?")[0], other.partition("?")[2]
        assert APIClient().get(f"{address}?{token}").status_code == 404
