"""Sweeps: deliver all due messages, delete old ones."""

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


def test_single_deliveries_pause_until_a_sweep_succeeds(queued, mail_server, user, make_event):
    mail_server.at_recipient = "drop"
    message_deliver(message_id=queued.pk)
    assert server_pause.is_on()
    publish(make_event(actor_id=user.pk))
    other = Message.objects.exclude(pk=queued.pk).get()
    mail_server.at_recipient = OK

    message_deliver(message_id=other.pk)
    other.refresh_from_db()
    assert (other.state, other.attempts) == ("queued", 0)

    messages_sweep()
    other.refresh_from_db()
    assert other.state == "sent"
    assert not server_pause.is_on()


def test_sweep_stops_after_repeated_server_failures(mail_server, user, make_event):
    for _ in range(10):
        publish(make_event(actor_id=user.pk))
    mail_server.at_recipient = "drop"

    assert messages_sweep() == 3
    assert Message.objects.filter(attempts=0).count() == 7


def test_sweep_uses_one_connection(mail_server, user, make_event):
    for _ in range(10):
        publish(make_event(actor_id=user.pk))

    assert messages_sweep() == 10
    assert len(mail_server.accepted) == 10
    assert mail_server.connections == 1


def test_sweep_stops_after_its_time_limit(mail_server, user, make_event, settings):
    for _ in range(5):
        publish(make_event(actor_id=user.pk))
    settings.MYOMETRICS_NOTIFICATIONS = {**PATIENT, "SWEEP_SECONDS": 1e-9}

    assert messages_sweep() == 0


def test_purge_deletes_old_finished_messages_only(user, make_event):
    ages = {"sent": 31, "dropped": 31, "dead": 91, "queued": 400}
    kept = {"sent": 29, "dropped": 29, "dead": 89}
    for state, days in [*ages.items(), *kept.items()]:
        publish(make_event(actor_id=user.pk))
        Message.objects.filter(pk=Message.objects.latest("pk").pk).update(
            state=state, settled_at=utc_now() - timedelta(days=days)
        )

    assert messages_purge() == 3

    left = sorted(Message.objects.values_list("state", flat=True))
    assert left == ["dead", "dropped", "queued", "sent"]


@pytest.mark.django_db(transaction=True)
def test_concurrent_sweeps_send_nothing_twice(
    make_user, make_event, run_concurrently, mail_server, settings
):
    settings.MYOMETRICS_NOTIFICATIONS = {
        **settings.MYOMETRICS_NOTIFICATIONS,
        "MAILS_PER_USER_PER_HOUR": 40,
    }
    user = make_user()
    for _ in range(40):
        publish(make_event(actor_id=user.pk))

    attempts = run_concurrently(messages_sweep, times=2)

    ids = [sent["Message-ID"] for sent in mail_server.accepted]
    assert len(ids) == len(set(ids)) == 40
    assert sum(attempts) == 40
