"""Gauges of the outbox."""

from datetime import timedelta

import time_machine

from myometrics_core.observability import registered_gauges
from myometrics_core.times import utc_now
from myometrics_notifications.gauges import outbox_age_seconds, outbox_dead
from myometrics_notifications.models import Message


def test_gauges_are_zero_for_an_empty_outbox(db):
    names = {gauge.name for gauge in registered_gauges()}

    assert {"myometrics_outbox_age_seconds", "myometrics_outbox_dead"} <= names
    assert (outbox_age_seconds(), outbox_dead()) == (0, 0)


@time_machine.travel("2026-03-02T10:00:00Z", tick=False)
def test_gauges_show_oldest_due_mail_and_dead_letters(user):
    for number, (age, state) in enumerate(
        [(-60, "queued"), (90, "queued"), (30, "queued"), (300, "sent"), (300, "dead")]
    ):
        Message.objects.create(
            kind="upload_completed",
            recipient=user,
            dedupe_key=str(number),
            state=state,
            next_attempt_at=utc_now() - timedelta(seconds=age),
        )

    assert outbox_age_seconds() == 90
    assert outbox_dead() == 1
