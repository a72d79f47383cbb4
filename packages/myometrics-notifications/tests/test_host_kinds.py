"""A host's own kind of notification, by a small class."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.core import mail
from specified import SETTINGS_URL

from myometrics_core.events import publish, publish_many
from myometrics_notifications.built_in_kinds import SystemAlerts, UploadCompleted
from myometrics_notifications.delivery import message_deliver
from myometrics_notifications.kinds import NotificationKind
from myometrics_notifications.models import Message
from myometrics_notifications.services import messages_queue, notification_settings_update

pytestmark = pytest.mark.django_db

TEMPLATES = {
    "subject.txt": "Report {{ resource_id }}",
    "body.txt": "Report {{ resource_id }} was signed.",
    "body.html": "<p>Report {{ resource_id }} was signed.</p>",
}


class ReportSigned(NotificationKind):
    name = "report_signed"
    title = "Signed reports"
    resource_type = "report"
    actions = frozenset({"report_signed"})


class ReportSignedByDefault(ReportSigned):
    default_on = True


class ReportSignedByReportsAlone(ReportSignedByDefault):
    sources = frozenset({"reports"})


class ReportSignedToAll(ReportSigned):
    def concerns(self, activity):
        return None


class ReportSignedToAllByDefault(ReportSignedToAll):
    default_on = True


class UploadCompletedOnRequest(UploadCompleted):
    default_on = False


class SystemAlertsByDefault(SystemAlerts):
    default_on = True


@pytest.fixture
def signed(person, make_activity):
    return make_activity(
        actor_id=person.pk, resource_type="report", action="report_signed", resource_id="r1"
    )


@pytest.mark.parametrize("kind", [ReportSigned(), ReportSignedByDefault()])
def test_its_switch_joins_the_endpoint_and_the_export(
    use_kind, person, client_of, exported_switches, kind
):
    use_kind(kind)
    client = client_of(person)

    assert client.get(SETTINGS_URL).json()["report_signed"] is kind.default_on
    turned = client.patch(
        SETTINGS_URL, {"report_signed": not kind.default_on}, format="json"
    ).json()
    assert turned["report_signed"] is not kind.default_on
    assert client.get(SETTINGS_URL).json() == turned
    assert exported_switches(person) == turned
    refused = client.patch(SETTINGS_URL, {"report_signed": "yes"}, format="json")
    assert list(refused.json()["field_errors"]) == ["report_signed"]


@pytest.mark.parametrize(
    ("kind", "switches", "expected"),
    [
        (ReportSigned(), {}, 0),
        (ReportSigned(), {"report_signed": True}, 1),
        (ReportSigned(), {"report_signed": True, "email_notifications": False}, 0),
        (ReportSignedByDefault(), {}, 1),
        (ReportSignedByDefault(), {"upload_completed": False}, 1),
        (ReportSignedByDefault(), {"report_signed": False}, 0),
        (ReportSignedByDefault(), {"email_notifications": False}, 0),
        (ReportSignedToAll(), {}, 0),
        (ReportSignedToAll(), {"report_signed": True}, 1),
        (ReportSignedToAllByDefault(), {}, 2),
        (ReportSignedToAllByDefault(), {"report_signed": False}, 1),
    ],
)
def test_its_switch_is_heeded(use_kind, person, make_person, signed, kind, switches, expected):
    use_kind(kind)
    make_person()
    if switches:
        notification_settings_update(user=person, switches=switches)

    publish(signed)

    assert Message.objects.count() == expected


def test_only_sources_that_it_names_are_believed(use_kind, signed):
    use_kind(ReportSignedByReportsAlone())
    publish(signed)
    assert not Message.objects.exists()
    publish(replace(signed, id="reports:1"))
    assert Message.objects.count() == 1


@pytest.mark.parametrize("kind", [UploadCompletedOnRequest(), SystemAlertsByDefault()])
@pytest.mark.parametrize("looked_before", [False, True])
def test_the_default_of_a_replaced_kind_is_shown_exported_and_heeded(
    use_kind,
    person,
    client_of,
    exported_switches,
    make_activity,
    health_change,
    kind,
    looked_before,
):
    use_kind(kind)
    assert exported_switches(person)[kind.name] is kind.default_on
    if looked_before:
        assert client_of(person).get(SETTINGS_URL).json()[kind.name] is kind.default_on

    publish(make_activity(actor_id=person.pk))
    publish(health_change())
    for message in Message.objects.filter(kind=kind.name):
        message_deliver(message_id=message.pk)

    states = [message.state for message in Message.objects.filter(kind=kind.name)]
    assert states == (["sent"] if kind.default_on else [])


def test_its_mail_is_sent_by_its_templates(use_kind, host_templates, signed):
    host_templates("report_signed", TEMPLATES)
    use_kind(ReportSignedByDefault())

    publish(signed)
    message_deliver(message_id=Message.objects.get().pk)

    assert mail.outbox[0].subject == "Report r1"
    assert mail.outbox[0].body == "Report r1 was signed.\n"


def test_a_kind_that_fails_does_not_silence_the_others(use_kind, person, make_activity):
    class Broken(ReportSigned):
        resource_type = "upload"
        actions = frozenset({"upload_completed"})

        def concerns(self, activity):
            raise RuntimeError("the host's fault")

    use_kind(Broken())

    publish(make_activity(actor_id=person.pk))

    assert [message.kind for message in Message.objects.all()] == ["upload_completed"]


def test_kind_that_fails_on_one_event_of_a_batch_loses_that_notice_only(
    use_kind, person, make_activity
):
    class Broken(ReportSigned):
        resource_type = "upload"
        actions = frozenset({"upload_completed"})
        default_on = True

        def context(self, activity):
            if activity.resource_id == "u2":
                raise RuntimeError("the host's fault")
            return super().context(activity)

    use_kind(Broken())

    publish_many(make_activity(actor_id=person.pk, resource_id=f"u{n}") for n in (1, 2, 3))

    assert [message.kind for message in Message.objects.order_by("pk")] == [
        *("upload_completed", Broken.name),
        "upload_completed",
        *("upload_completed", Broken.name),
    ]


def test_kind_for_all_and_kind_for_one_are_queued_together(use_kind, make_person, make_activity):
    class ForAll(ReportSigned):
        resource_type = "upload"
        actions = frozenset({"upload_completed"})
        default_on = True

        def concerns(self, activity):
            return None

    use_kind(ForAll())
    people = [make_person() for _ in range(3)]

    publish_many(make_activity(actor_id=people[n].pk, resource_id=f"u{n}") for n in (0, 1))

    queued = Message.objects.order_by("pk").values_list("kind", "recipient_id")
    everyone = [(ForAll.name, key) for key in sorted((one.pk for one in people), key=str)]
    assert list(queued) == [
        *[("upload_completed", people[0].pk), *everyone],
        *[("upload_completed", people[1].pk), *everyone],
    ]


def test_messages_of_a_kind_that_is_gone_are_dropped(person, make_activity):
    publish(make_activity(actor_id=person.pk))
    Message.objects.update(kind="kind_of_last_year")

    message_deliver(message_id=Message.objects.get().pk)

    assert Message.objects.get().state == "dropped"
    assert mail.outbox == []


def test_a_host_can_queue_a_mail_without_any_activity(use_kind, person):
    kind = ReportSignedByDefault()
    use_kind(kind)

    for _ in range(2):
        messages_queue(
            kind=kind, user_ids=[person.pk], context={"resource_id": "r9"}, once_per="r9"
        )

    assert Message.objects.get().context == {"resource_id": "r9"}


@pytest.mark.parametrize(
    "bad", ["", "Upper", "two words", "a__b", "a_", "1a", "email_notifications", "a" * 51, "ä"]
)
def test_a_name_that_can_not_be_a_switch_is_refused(use_kind, bad):
    kind = ReportSigned()
    kind.name = bad

    with pytest.raises(ValueError, match="can't be the name"):
        use_kind(kind)


def test_a_kind_without_a_resource_type_is_asked_about_each_activity(
    use_kind, person, signed, make_activity
):
    class Everything(ReportSignedByDefault):
        resource_type = ""

        def wants(self, activity):
            return activity.action != "upload_failed"

    use_kind(Everything())

    publish(signed)
    publish(make_activity(actor_id=person.pk, resource_type="door", action="opened"))
    publish(make_activity(actor_id=person.pk, resource_type="door", action="upload_failed"))

    assert Message.objects.count() == 2


def test_what_no_kind_is_about_costs_its_writer_nothing(
    person, make_activity, django_assert_num_queries
):
    with django_assert_num_queries(0):
        publish(make_activity(actor_id=person.pk, resource_type="door", action="opened"))
