"""The admin site: switches, the outbox, retry of dead letters."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from job_runs import job_of

from myometrics_core.events import publish
from myometrics_core.jobs import Job
from myometrics_notifications.exports import export_request
from myometrics_notifications.models import Message, NotificationSettings
from myometrics_notifications.services import notification_settings_ensure

pytestmark = pytest.mark.django_db

MESSAGES = reverse("admin:myometrics_notifications_message_changelist")
SETTINGS = reverse("admin:myometrics_notifications_notificationsettings_changelist")


@pytest.fixture
def dead(user, make_event):
    publish(make_event(actor_id=user.pk))
    Message.objects.update(state="dead", last_error="SMTPDataError 451")
    Job.objects.update(state="dead", attempts=20)
    return Message.objects.get()


def retry(client, message):
    return client.post(MESSAGES, {"action": "retry", "_selected_action": [message.pk]})


@pytest.mark.parametrize("query", ["", "?q=ada", "?q=%00", "?state__exact=dead", "?q=" + "9" * 40])
def test_lists_open_with_search_and_filter(admin, dead, user, query):
    notification_settings_ensure(user=user)

    assert admin.get(f"{MESSAGES}{query}").status_code == 200
    assert (
        admin.get(f"{SETTINGS}{query.replace('state__exact=dead', 'system_alerts=1')}").status_code
        == 200
    )


def test_dead_letter_is_listed_and_retried(admin, dead):
    assert "SMTPDataError 451" in admin.get(MESSAGES).content.decode()

    retry(admin, dead)

    dead.refresh_from_db()
    assert dead.state == "queued"
    assert (job_of(dead).state, job_of(dead).attempts) == ("pending", 0)


def test_retry_leaves_out_sent_messages(admin, dead):
    Message.objects.update(state="sent")

    retry(admin, dead)

    dead.refresh_from_db()
    assert dead.state == "sent"


def test_retry_requires_permission_to_change_messages(client, make_user, dead):
    viewer = make_user(is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_message"))
    client.force_login(viewer)
    assert client.get(MESSAGES).status_code == 200

    retry(client, dead)
    dead.refresh_from_db()
    assert dead.state == "dead"

    viewer.user_permissions.add(Permission.objects.get(codename="change_message"))
    retry(client, dead)
    dead.refresh_from_db()
    assert dead.state == "queued"


def test_messages_are_read_only(admin, dead):
    change = reverse("admin:myometrics_notifications_message_change", args=[dead.pk])

    assert admin.get(change).status_code == 200
    assert admin.post(change, {"state": "sent"}).status_code == 403
    assert admin.get(reverse("admin:myometrics_notifications_message_add")).status_code == 403


def test_switches_of_a_user_can_be_changed(admin, user):
    settings = notification_settings_ensure(user=user)
    change = reverse(
        "admin:myometrics_notifications_notificationsettings_change", args=[settings.pk]
    )

    admin.post(change, {"user": user.pk, "system_alerts": "on", "host_switches": "{}"})

    settings.refresh_from_db()
    assert (settings.system_alerts, settings.email_notifications) == (True, False)


def test_lists_use_a_fixed_number_of_queries(
    admin, make_user, make_event, django_assert_max_num_queries
):
    for _ in range(30):
        user = make_user()
        notification_settings_ensure(user=user)
        publish(make_event(actor_id=user.pk))

    assert NotificationSettings.objects.count() == 30
    for url in (MESSAGES, SETTINGS):
        with django_assert_max_num_queries(8):
            admin.get(url)


def test_user_with_messages_can_be_deleted(admin, dead, user):
    url = reverse("admin:clinic_site_person_delete", args=[user.pk])

    admin.post(url, {"post": "yes"})

    assert not type(user).objects.filter(pk=user.pk).exists()
    assert Message.objects.count() == 0


def test_export_files_are_listed(admin, user):
    export_request(user=user, export_format="csv")

    page = admin.get(reverse("admin:myometrics_notifications_exportfile_changelist") + "?q=ada")

    assert "ada@clinic.example" in page.content.decode() or "Ada Byron" in page.content.decode()
