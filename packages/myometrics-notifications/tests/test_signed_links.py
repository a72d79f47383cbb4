"""Links in old mails keep working."""

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

USER = UUID("6f9619ff-8b86-4011-b42d-00c04fc964ff")
UNSUBSCRIBE = (
    "/api/notifications/unsubscribe/?token=WyI2Zjk2MTlmZi04Yjg2LTQwMTEtYjQyZC0wMGMwNGZjOTY0ZmYiLCJ"
    "1cGxvYWRfY29tcGxldGVkIl0%3A1xVImJ%3AB9NqerqR-oSW4ut4WYzVbscGqjlg5MgyeV08ijNZ2rg"
)
EXPORT = (
    "/api/notifications/exports/?token="
    "NDcxMQ%3A1xVImK%3AfZHBMYNOrZNc_EHqh6UHZtBFK9CFT0cuYuedumXGSFg"
)


@pytest.fixture(autouse=True)
def _the_site_of_then(settings, make_user):
    settings.SECRET_KEY = "the key of a site that sent mails before"
    make_user(pk=USER)


def test_unsubscribe_link_of_version_0_1_works():
    answer = APIClient().post(UNSUBSCRIBE)
    assert answer.status_code == 200
    assert NotificationSettings.objects.get().upload_completed is False


@pytest.mark.usefixtures("media")
def test_export_link_of_version_0_1_works(settings):
    settings.MYOMETRICS_NOTIFICATIONS = {"EXPORT_LIFETIME": timedelta(days=36_500)}
    ExportFile.objects.create(
        pk=4711,
        user_id=USER,
        export_format="csv",
        storage_name=default_storage.save("export.csv", ContentFile(b"a,b\n")),
        state=ExportFile.State.READY,
        expires_at=utc_now() + timedelta(days=1),
    )
    assert APIClient().get(EXPORT).getvalue() == b"a,b\n"


def test_links_work_while_their_key_is_a_fallback(settings):
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "new" * 20
    assert APIClient().post(UNSUBSCRIBE).status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert APIClient().post(UNSUBSCRIBE).status_code == 404


def test_tokens_are_not_interchangeable():
    for link, other in ((UNSUBSCRIBE, EXPORT), (EXPORT, UNSUBSCRIBE)):
        address, token = link.partition("?")[0], other.partition("?")[2]
        assert APIClient().get(f"{address}?{token}").status_code == 404
