"""Which activity owes a mail to whom: rows in the transaction of their cause."""

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


def owed():
    return list(Message.objects.order_by("pk").values_list("kind", "recipient_id"))


@pytest.mark.parametrize("action", ["upload_completed", "analysis_ready"])
def test_an_upload_activity_owes_the_uploader_a_mail_before_any_setting_is_stored(
    person, make_activity, action
):
    publish(make_activity(actor_id=person.pk, action=action))

    assert owed() == [(action, person.pk)]
    assert NotificationSettings.objects.count() == 0


@pytest.mark.parametrize("action", ["upload_created", "upload_processing", "upload_failed"])
def test_other_upload_activities_owe_nothing(person, make_activity, action):
    publish(make_activity(actor_id=person.pk, action=action))

    assert owed() == []


def test_other_resources_owe_nothing(person, make_activity):
    publish(make_activity(actor_id=person.pk, resource_type="report"))

    assert owed() == []


@pytest.mark.parametrize("off", ["email_notifications", "upload_completed"])
def test_a_switch_that_is_off_owes_nothing(person, make_activity, off):
    notification_settings_update(user=person, switches={off: False})

    publish(make_activity(actor_id=person.pk))
    publish(make_activity(actor_id=person.pk, action="analysis_ready"))

    assert owed() == ([] if off == "email_notifications" else [("analysis_ready", person.pk)])


def test_an_upload_owes_one_mail_of_each_kind_however_often_it_is_reported(
    person, make_person, make_activity
):
    neighbour = make_person()
    for _ in range(2):
        publish(make_activity(actor_id=person.pk, resource_id="u1"))
        publish(make_activity(actor_id=person.pk, resource_id="u1", action="analysis_ready"))
        publish(make_activity(actor_id=neighbour.pk, resource_id="u1"))

    assert owed() == [
        ("upload_completed", person.pk),
        ("analysis_ready", person.pk),
        ("upload_completed", neighbour.pk),
    ]


def test_nobody_or_somebody_gone_is_owed_nothing(person, make_activity):
    gone = person.pk
    person.delete()

    publish(make_activity(actor_id=None))
    publish(make_activity(actor_id=gone))

    assert owed() == []


def test_history_replayed_owes_nothing(person, make_activity):
    publish(make_activity(actor_id=person.pk, occurred_at=utc_now() - timedelta(days=2)))

    assert owed() == []


def test_health_changes_go_to_those_alone_who_asked_for_them(make_person, health_change):
    asked, asked_but_no_mail, never_asked = make_person(), make_person(), make_person()
    notification_settings_update(user=asked, switches={"system_alerts": True})
    notification_settings_update(
        user=asked_but_no_mail, switches={"system_alerts": True, "email_notifications": False}
    )
    notification_settings_update(user=never_asked, switches={"upload_completed": True})

    publish(health_change("system_down"))
    publish(health_change("system_recovered"))

    assert owed() == [("system_alerts", asked.pk)] * 2


def test_a_health_change_is_mailed_once_however_often_it_is_told(person, health_change):
    notification_settings_update(user=person, switches={"system_alerts": True})
    change = health_change()

    publish(change)
    publish(change)

    assert owed() == [("system_alerts", person.pk)]


def test_an_audit_entry_that_claims_a_health_change_is_not_believed(person, health_change):
    notification_settings_update(user=person, switches={"system_alerts": True})

    publish(health_change(id="audit:1", actor_id=person.pk))

    assert owed() == []


@pytest.mark.parametrize(
    "details", [{}, {"services": None}, {"services": []}, {"services": "down"}, {"status": 7}]
)
def test_odd_details_of_a_health_change_still_owe_the_mail(person, health_change, details):
    notification_settings_update(user=person, switches={"system_alerts": True})

    publish(health_change(details=details))

    assert owed() == [("system_alerts", person.pk)]


def test_a_cause_that_is_rolled_back_owes_nothing(person, make_activity):
    with transaction.atomic():
        publish(make_activity(actor_id=person.pk))
        transaction.set_rollback(True)

    assert owed() == []


def test_the_outbox_holds_neither_address_nor_name_nor_file_name_nor_finding(person, make_activity):
    details = {"filename": "byron_ada.dcm", "diagnosis": "Myocardial Infarction"}
    publish(make_activity(actor_id=person.pk, details=details, client_address="203.0.113.9"))

    row = str(Message.objects.values().get())

    for secret in ("ada@", "Byron", "byron", "Myocardial", "203.0.113.9"):
        assert secret not in row


def test_who_is_owed_already_does_not_stand_in_the_way_of_others(person, make_person):
    later = make_person()
    for user_ids in ([person.pk], [person.pk, later.pk]):
        messages_queue(kind=kind_named("export_ready"), user_ids=user_ids, context={}, once_per="x")

    assert {recipient for _, recipient in owed()} == {person.pk, later.pk}
    assert len(owed()) == 2


def test_an_upload_costs_its_writer_few_statements(
    person, make_activity, django_assert_max_num_queries
):
    with django_assert_max_num_queries(7):  # two savepoints, who wants it, the row, its key
        publish(make_activity(actor_id=person.pk))


@pytest.mark.parametrize("number", [50, 500])
def test_uploads_published_together_cost_few_statements(
    make_person, make_activity, number, django_assert_max_num_queries
):
    people = [make_person() for _ in range(5)]
    notification_settings_update(user=people[0], switches={"upload_completed": False})
    activities = [
        make_activity(actor_id=person.pk, resource_id=f"u{upload}")
        for upload in range(number // 10)
        for person in people
        for _ in range(2)
    ]
    # Savepoint, who wants it, the rows: a few statements on SQLite.
    with django_assert_max_num_queries(6 if connection.vendor == "postgresql" else 12):
        publish_many(activities)

    expected = [
        ("upload_completed", person.pk) for _ in range(number // 10) for person in people[1:]
    ]
    assert owed() == expected


def test_many_thousand_recipients_are_queued_in_few_queries(
    make_person, django_assert_max_num_queries
):
    people = [make_person() for _ in range(1200)]

    with django_assert_max_num_queries(40):
        count = messages_queue(
            kind=kind_named("export_ready"), user_ids=None, context={}, once_per="x"
        )

    assert count == Message.objects.count() == len(people)


@pytest.mark.django_db(transaction=True)
def test_the_same_event_at_the_same_moment_owes_one_mail(
    make_person, make_activity, run_concurrently
):
    person = make_person()
    activity = make_activity(actor_id=person.pk)

    outcomes = run_concurrently(lambda: publish(activity), times=10)

    assert outcomes == [None] * 10
    assert owed() == [("upload_completed", person.pk)]


@pytest.mark.django_db(transaction=True)
def test_mail_is_sent_at_once_where_tasks_are_eager(person, make_activity, settings, mailoutbox):
    settings.CELERY_TASK_ALWAYS_EAGER = True
    with transaction.atomic():
        publish(make_activity(actor_id=person.pk))
        assert mailoutbox == []
    assert [message.to for message in mailoutbox] == [[person.email]]
