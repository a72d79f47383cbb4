"""The outbox's age, for those who watch the site."""

from datetime import timedelta

import time_machine

from myometrics_core.observability import registered_gauges
from myometrics_core.times import utc_now
from myometrics_notifications.gauges import outbox_age_seconds, outbox_dead
from myometrics_notifications.models import Message


def test_both_gauges_are_offered_and_stand_at_nothing_while_nothing_is_owed(db):
    names = {gauge.name for gauge in registered_gauges()}

    assert {"myometrics_outbox_age_seconds", "myometrics_outbox_dead"} <= names
    assert (outbox_age_seconds(), outbox_dead()) == (0, 0)


@time_machine.travel("2026-03-02T10:00:00Z", tick=False)
def test_the_age_is_that_of_the_mail_due_longest_and_dead_ones_are_counted(person):
    for number, (age, state) in enumerate(
        [(-60, "queued"), (90, "queued"), (30, "queued"), (300, "sent"), (300, "dead")]
    ):
        Message.objects.create(
            kind="upload_completed",
            recipient=person,
            dedupe_key=str(number),
            state=state,
            next_attempt_at=utc_now() - timedelta(seconds=age),
        )

    assert outbox_age_seconds() == 90
    assert outbox_dead() == 1
