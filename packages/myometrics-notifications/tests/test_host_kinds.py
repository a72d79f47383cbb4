"""Notification kinds of the site."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.core import mail
from job_runs import deliver
from specified import SETTINGS_URL

from myometrics_core.events import publish, publish_many
from myometrics_notifications.built_in_kinds import SystemAlerts, UploadCompleted
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
    def concerns(self, event):
        return None


class ReportSignedToAllByDefault(ReportSignedToAll):
    default_on = True


class UploadCompletedOnRequest(UploadCompleted):
    default_on = False


class SystemAlertsByDefault(SystemAlerts):
    default_on = True


@pytest.fixture
def signed(user, make_event):
    return make_event(
        actor_id=user.pk, resource_type="report", action="report_signed", resource_id="r1"
    )


@pytest.mark.parametrize("kind", [ReportSigned(), ReportSignedByDefault()])
def test_switch_of_a_site_kind_is_in_endpoint_and_export(
    use_kind, user, client_of, exported_switches, kind
):
    use_kind(kind)
    client = client_of(user)

    assert client.get(SETTINGS_URL).json()["report_signed"] is kind.default_on
    turned = client.patch(
        SETTINGS_URL, {"report_signed": not kind.default_on}, format="json"
    ).json()
    assert turned["report_signed"] is not kind.default_on
    assert client.get(SETTINGS_URL).json() == turned
    assert exported_switches(user) == turned
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
def test_switch_of_a_site_kind_is_respected(
    use_kind, user, make_user, signed, kind, switches, expected
):
    use_kind(kind)
    make_user()
    if switches:
        notification_settings_update(user=user, switches=switches)

    publish(signed)

    assert Message.objects.count() == expected


def test_kind_accepts_only_events_of_its_sources(use_kind, signed):
    use_kind(ReportSignedByReportsAlone())
    publish(signed)
    assert not Message.objects.exists()
    publish(replace(signed, id="reports:1"))
    assert Message.objects.count() == 1


@pytest.mark.parametrize("kind", [UploadCompletedOnRequest(), SystemAlertsByDefault()])
@pytest.mark.parametrize("looked_before", [False, True])
def test_default_of_a_replaced_kind_is_used_everywhere(
    use_kind,
    user,
    client_of,
    exported_switches,
    make_event,
    health_change,
    kind,
    looked_before,
):
    use_kind(kind)
    assert exported_switches(user)[kind.name] is kind.default_on
    if looked_before:
        assert client_of(user).get(SETTINGS_URL).json()[kind.name] is kind.default_on

    publish(make_event(actor_id=user.pk))
    publish(health_change())
    for message in Message.objects.filter(kind=kind.name):
        deliver(message)

    states = [message.state for message in Message.objects.filter(kind=kind.name)]
    assert states == (["sent"] if kind.default_on else [])


def test_mail_of_a_site_kind_uses_its_templates(use_kind, host_templates, signed):
    host_templates("report_signed", TEMPLATES)
    use_kind(ReportSignedByDefault())

    publish(signed)
    deliver(Message.objects.get())

    assert mail.outbox[0].subject == "Report r1"
    assert mail.outbox[0].body == "Report r1 was signed.\n"


def test_failing_kind_does_not_affect_others(use_kind, user, make_event):
    class Broken(ReportSigned):
        resource_type = "upload"
        actions = frozenset({"upload_completed"})

        def concerns(self, event):
            raise RuntimeError("error of the site")

    use_kind(Broken())

    publish(make_event(actor_id=user.pk))

    assert [message.kind for message in Message.objects.all()] == ["upload_completed"]


def test_kind_failing_on_one_event_of_a_batch_loses_only_that_one(use_kind, user, make_event):
    class Broken(ReportSigned):
        resource_type = "upload"
        actions = frozenset({"upload_completed"})
        default_on = True

        def context(self, event):
            if event.resource_id == "u2":
                raise RuntimeError("error of the site")
            return super().context(event)

    use_kind(Broken())

    publish_many(make_event(actor_id=user.pk, resource_id=f"u{n}") for n in (1, 2, 3))

    assert [message.kind for message in Message.objects.order_by("pk")] == [
        *("upload_completed", Broken.name),
        "upload_completed",
        *("upload_completed", Broken.name),
    ]


def test_kind_for_all_and_kind_for_one_are_queued_together(use_kind, make_user, make_event):
    class ForAll(ReportSigned):
        resource_type = "upload"
        actions = frozenset({"upload_completed"})
        default_on = True

        def concerns(self, event):
            return None

    use_kind(ForAll())
    users = [make_user() for _ in range(3)]

    publish_many(make_event(actor_id=users[n].pk, resource_id=f"u{n}") for n in (0, 1))

    queued = Message.objects.order_by("pk").values_list("kind", "recipient_id")
    everyone = [(ForAll.name, key) for key in sorted((one.pk for one in users), key=str)]
    assert list(queued) == [
        *[("upload_completed", users[0].pk), *everyone],
        *[("upload_completed", users[1].pk), *everyone],
    ]


def test_message_of_an_unregistered_kind_is_dropped(user, make_event):
    publish(make_event(actor_id=user.pk))
    Message.objects.update(kind="kind_of_last_year")

    deliver(Message.objects.get())

    assert Message.objects.get().state == "dropped"
    assert mail.outbox == []


def test_site_can_queue_a_mail_without_an_event(use_kind, user):
    kind = ReportSignedByDefault()
    use_kind(kind)

    for _ in range(2):
        messages_queue(kind=kind, user_ids=[user.pk], context={"resource_id": "r9"}, once_per="r9")

    assert Message.objects.get().context == {"resource_id": "r9"}


@pytest.mark.parametrize(
    "bad", ["", "Upper", "two words", "a__b", "a_", "1a", "email_notifications", "a" * 51, "ä"]
)
def test_invalid_kind_name_is_refused(use_kind, bad):
    kind = ReportSigned()
    kind.name = bad

    with pytest.raises(ValueError, match="can't be the name"):
        use_kind(kind)


def test_kind_without_resource_type_receives_every_event(use_kind, user, signed, make_event):
    class Everything(ReportSignedByDefault):
        resource_type = ""

        def wants(self, event):
            return event.action != "upload_failed"

    use_kind(Everything())

    publish(signed)
    publish(make_event(actor_id=user.pk, resource_type="report_card", action="opened"))
    publish(make_event(actor_id=user.pk, resource_type="report_card", action="upload_failed"))

    assert Message.objects.count() == 2


def test_event_without_a_kind_needs_no_query(user, make_event, django_assert_num_queries):
    with django_assert_num_queries(0):
        publish(make_event(actor_id=user.pk, resource_type="report_card", action="opened"))
