"""Queuing: which events queue which messages, in the event's transaction."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction

from myometrics_core.events import publish, publish_many
from myometrics_core.times import utc_now
from myometrics_notifications.kinds import kind_named
from myometrics_notifications.models import Message, NotificationSettings
from myometrics_notifications.services import messages_queue, notification_settings_update

pytestmark = pytest.mark.django_db


def queued_mails():
    return list(Message.objects.order_by("pk").values_list("kind", "recipient_id"))


@pytest.mark.parametrize("action", ["upload_completed", "analysis_ready"])
def test_upload_event_queues_a_mail_for_the_uploader_by_default(user, make_event, action):
    publish(make_event(actor_id=user.pk, action=action))

    assert queued_mails() == [(action, user.pk)]
    assert NotificationSettings.objects.count() == 0


@pytest.mark.parametrize("action", ["upload_created", "upload_processing", "upload_failed"])
def test_other_upload_events_queue_nothing(user, make_event, action):
    publish(make_event(actor_id=user.pk, action=action))

    assert queued_mails() == []


def test_events_of_other_resources_queue_nothing(user, make_event):
    publish(make_event(actor_id=user.pk, resource_type="report"))

    assert queued_mails() == []


@pytest.mark.parametrize("off", ["email_notifications", "upload_completed"])
def test_switch_turned_off_queues_nothing(user, make_event, off):
    notification_settings_update(user=user, switches={off: False})

    publish(make_event(actor_id=user.pk))
    publish(make_event(actor_id=user.pk, action="analysis_ready"))

    assert queued_mails() == ([] if off == "email_notifications" else [("analysis_ready", user.pk)])


def test_upload_queues_one_mail_of_each_kind(user, make_user, make_event):
    other_user = make_user()
    for _ in range(2):
        publish(make_event(actor_id=user.pk, resource_id="u1"))
        publish(make_event(actor_id=user.pk, resource_id="u1", action="analysis_ready"))
        publish(make_event(actor_id=other_user.pk, resource_id="u1"))

    assert queued_mails() == [
        ("upload_completed", user.pk),
        ("analysis_ready", user.pk),
        ("upload_completed", other_user.pk),
    ]


def test_event_without_actor_or_of_deleted_user_queues_nothing(user, make_event):
    gone = user.pk
    user.delete()

    publish(make_event(actor_id=None))
    publish(make_event(actor_id=gone))

    assert queued_mails() == []


def test_replayed_event_queues_nothing(user, make_event):
    publish(make_event(actor_id=user.pk, occurred_at=utc_now() - timedelta(days=2)))

    assert queued_mails() == []


def test_health_change_is_mailed_only_to_users_with_the_switch_on(make_user, health_change):
    asked, asked_but_no_mail, never_asked = make_user(), make_user(), make_user()
    notification_settings_update(user=asked, switches={"system_alerts": True})
    notification_settings_update(
        user=asked_but_no_mail, switches={"system_alerts": True, "email_notifications": False}
    )
    notification_settings_update(user=never_asked, switches={"upload_completed": True})

    publish(health_change("system_down"))
    publish(health_change("system_recovered"))

    assert queued_mails() == [("system_alerts", asked.pk)] * 2


def test_health_change_published_twice_is_mailed_once(user, health_change):
    notification_settings_update(user=user, switches={"system_alerts": True})
    change = health_change()

    publish(change)
    publish(change)

    assert queued_mails() == [("system_alerts", user.pk)]


def test_health_change_from_an_audit_entry_is_ignored(user, health_change):
    notification_settings_update(user=user, switches={"system_alerts": True})

    publish(health_change(id="audit:1", actor_id=user.pk))

    assert queued_mails() == []


@pytest.mark.parametrize(
    "details", [{}, {"services": None}, {"services": []}, {"services": "down"}, {"status": 7}]
)
def test_health_change_with_odd_details_is_mailed(user, health_change, details):
    notification_settings_update(user=user, switches={"system_alerts": True})

    publish(health_change(details=details))

    assert queued_mails() == [("system_alerts", user.pk)]


def test_rolled_back_event_queues_nothing(user, make_event):
    with transaction.atomic():
        publish(make_event(actor_id=user.pk))
        transaction.set_rollback(True)

    assert queued_mails() == []


def test_outbox_contains_no_personal_data(user, make_event):
    details = {"filename": "byron_ada.dcm", "diagnosis": "Myocardial Infarction"}
    publish(make_event(actor_id=user.pk, details=details, client_address="203.0.113.9"))

    row = str(Message.objects.values().get())

    for secret in ("ada@", "Byron", "byron", "Myocardial", "203.0.113.9"):
        assert secret not in row


def test_existing_message_does_not_block_other_recipients(user, make_user):
    later = make_user()
    for user_ids in ([user.pk], [user.pk, later.pk]):
        messages_queue(kind=kind_named("export_ready"), user_ids=user_ids, context={}, once_per="x")

    assert {recipient for _, recipient in queued_mails()} == {user.pk, later.pk}
    assert len(queued_mails()) == 2


def test_upload_event_uses_few_statements(user, make_event, django_assert_max_num_queries):
    with django_assert_max_num_queries(9):  # two savepoints, who wants it, the row and job
        publish(make_event(actor_id=user.pk))


@pytest.mark.parametrize("number", [50, 500])
def test_batch_of_events_uses_few_statements(
    make_user, make_event, number, django_assert_max_num_queries
):
    users = [make_user() for _ in range(5)]
    notification_settings_update(user=users[0], switches={"upload_completed": False})
    events = [
        make_event(actor_id=user.pk, resource_id=f"u{upload}")
        for upload in range(number // 10)
        for user in users
        for _ in range(2)
    ]
    # Savepoint, who wants it, the rows, their jobs: a few statements on SQLite.
    with django_assert_max_num_queries(8 if connection.vendor == "postgresql" else 16):
        publish_many(events)

    expected = [("upload_completed", user.pk) for _ in range(number // 10) for user in users[1:]]
    assert queued_mails() == expected


def test_many_recipients_are_queued_in_few_statements(make_user, django_assert_max_num_queries):
    users = [make_user() for _ in range(1200)]

    with django_assert_max_num_queries(48):
        count = messages_queue(
            kind=kind_named("export_ready"), user_ids=None, context={}, once_per="x"
        )

    assert count == Message.objects.count() == len(users)


@pytest.mark.django_db(transaction=True)
def test_event_published_concurrently_is_mailed_once(make_user, make_event, run_concurrently):
    user = make_user()
    event = make_event(actor_id=user.pk)

    outcomes = run_concurrently(lambda: publish(event), times=10)

    assert outcomes == [None] * 10
    assert queued_mails() == [("upload_completed", user.pk)]


@pytest.mark.celery
@pytest.mark.django_db(transaction=True)
def test_eager_tasks_send_the_mail_at_once(user, make_event, settings, mailoutbox):
    settings.CELERY_TASK_ALWAYS_EAGER = True
    settings.MYOMETRICS = {**settings.MYOMETRICS, "JOB_RUNNER": "celery"}
    with transaction.atomic():
        publish(make_event(actor_id=user.pk))
        assert mailoutbox == []
    assert [message.to for message in mailoutbox] == [[user.email]]
