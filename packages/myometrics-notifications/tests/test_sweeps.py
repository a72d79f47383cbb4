"""Sweeps: what is due is tried in one go, and what is long settled is deleted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from conftest import PATIENT

from myometrics_core.events import publish
from myometrics_core.times import utc_now
from myometrics_notifications.delivery import message_deliver, messages_sweep
from myometrics_notifications.models import Message
from myometrics_notifications.server_pause import server_pause
from myometrics_notifications.services import messages_purge
from myometrics_testing.smtp_server import OK

pytestmark = pytest.mark.django_db


def test_single_deliveries_leave_a_broken_server_alone_until_a_sweep_succeeds(
    queued, mail_server, person, make_activity
):
    mail_server.at_recipient = "drop"
    message_deliver(message_id=queued.pk)
    assert server_pause.is_on()
    publish(make_activity(actor_id=person.pk))
    other = Message.objects.exclude(pk=queued.pk).get()
    mail_server.at_recipient = OK

    message_deliver(message_id=other.pk)
    other.refresh_from_db()
    assert (other.state, other.attempts) == ("queued", 0)

    messages_sweep()
    other.refresh_from_db()
    assert other.state == "sent"
    assert not server_pause.is_on()


def test_a_sweep_gives_up_on_a_broken_server_before_it_has_spent_everyones_attempts(
    mail_server, person, make_activity
):
    for _ in range(10):
        publish(make_activity(actor_id=person.pk))
    mail_server.at_recipient = "drop"

    assert messages_sweep() == 3
    assert Message.objects.filter(attempts=0).count() == 7


def test_a_sweep_uses_one_connection_for_all(mail_server, person, make_activity):
    for _ in range(10):
        publish(make_activity(actor_id=person.pk))

    assert messages_sweep() == 10
    assert len(mail_server.accepted) == 10
    assert mail_server.connections == 1


def test_a_sweep_ends_in_time(mail_server, person, make_activity, settings):
    for _ in range(5):
        publish(make_activity(actor_id=person.pk))
    settings.MYOMETRICS_NOTIFICATIONS = {**PATIENT, "SWEEP_SECONDS": 1e-9}

    assert messages_sweep() == 0


def test_old_settled_messages_are_purged_and_owed_ones_never(person, make_activity):
    ages = {"sent": 31, "dropped": 31, "dead": 91, "queued": 400}
    kept = {"sent": 29, "dropped": 29, "dead": 89}
    for state, days in [*ages.items(), *kept.items()]:
        publish(make_activity(actor_id=person.pk))
        Message.objects.filter(pk=Message.objects.latest("pk").pk).update(
            state=state, settled_at=utc_now() - timedelta(days=days)
        )

    assert messages_purge() == 3

    left = sorted(Message.objects.values_list("state", flat=True))
    assert left == ["dead", "dropped", "queued", "sent"]


@pytest.mark.django_db(transaction=True)
def test_two_sweepers_at_once_send_nothing_twice(
    make_person, make_activity, run_concurrently, mail_server, settings
):
    settings.MYOMETRICS_NOTIFICATIONS = {
        **settings.MYOMETRICS_NOTIFICATIONS,
        "MAILS_PER_USER_PER_HOUR": 40,
    }
    person = make_person()
    for _ in range(40):
        publish(make_activity(actor_id=person.pk))

    attempts = run_concurrently(messages_sweep, times=2)

    ids = [sent["Message-ID"] for sent in mail_server.accepted]
    assert len(ids) == len(set(ids)) == 40
    assert sum(attempts) == 40
