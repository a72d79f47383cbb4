"""``manage.py notifications_sweep``, for a site without Celery's beat."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core import mail
from django.core.management import call_command

from myometrics_core.events import publish
from myometrics_notifications.exports import export_request
from myometrics_notifications.models import ExportFile

pytestmark = pytest.mark.django_db


def test_command_delivers_due_messages_and_prints_counts(user, make_event, media):
    publish(make_event(actor_id=user.pk))
    export_request(user=user, export_format="csv")
    output = StringIO()

    call_command("notifications_sweep", stdout=output)
    call_command("notifications_sweep", stdout=output)

    assert sorted(sent.subject for sent in mail.outbox) == [
        "MyoMetrics: an upload is complete",
        "MyoMetrics: your data export is ready",
    ]
    assert output.getvalue().splitlines() == [
        "2 deliveries tried, 1 exports written, 0 rows deleted",
        "0 deliveries tried, 0 exports written, 0 rows deleted",
    ]


def test_command_does_not_count_failed_exports(user, media, settings):
    settings.MEDIA_ROOT = "/dev/null/nowhere"
    export_request(user=user, export_format="csv")
    output = StringIO()

    call_command("notifications_sweep", stdout=output)

    assert output.getvalue() == "0 deliveries tried, 0 exports written, 0 rows deleted\n"
    assert ExportFile.objects.get().attempts == 1
