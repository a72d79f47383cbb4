"""The hourly cap of notification mails, and the summary of the rest."""

from __future__ import annotations

import uuid
from datetime import timedelta
from threading import Lock

import pytest
import time_machine
from django.core import mail
from django.db import connection
from job_runs import deliver, deliver_due, job_of, write_exports

from myometrics_core.events import publish
from myometrics_core.jobs import Job
from myometrics_core.jobs.claims import claim_job
from myometrics_core.jobs.kinds import job_kind
from myometrics_core.times import utc_now
from myometrics_notifications.exports import export_request
from myometrics_notifications.mail_cap import message_admit
from myometrics_notifications.models import Message
from myometrics_notifications.services import DELIVER, messages_purge, notification_settings_update

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _cap(settings):
    settings.MYOMETRICS_NOTIFICATIONS = {"MAILS_PER_USER_PER_HOUR": 3}


@pytest.fixture
def upload(make_event):
    """Publish that ``times`` uploads of a user are complete."""

    def publish_uploads(user, times=1, action="upload_completed"):
        for _ in range(times):
            publish(make_event(actor_id=user.pk, action=action))

    return publish_uploads


@pytest.fixture
def later():
    """Run a sweep at a later time."""

    def sweep(**delta):
        with time_machine.travel(utc_now() + timedelta(**delta), tick=False):
            deliver_due()

    return sweep


def mails_to(user):
    return [sent for sent in mail.outbox if sent.to == [user.email]]


def states():
    return sorted(Message.objects.values_list("state", flat=True))


def test_mails_beyond_the_cap_become_one_summary_after_the_hour(user, upload, later):
    upload(user, 5)
    upload(user, 2, "analysis_ready")
    deliver_due()
    assert len(mails_to(user)) == 3

    later(minutes=59)
    assert len(mails_to(user)) == 3

    later(minutes=61)
    assert len(mails_to(user)) == 4
    summary = mails_to(user)[-1]
    assert summary.subject == "MyoMetrics: 4 more notifications"
    assert "Completed uploads: 2" in summary.body
    assert "Finished analyses: 2" in summary.body
    assert "<li>Finished analyses: 2</li>" in summary.alternatives[0][0]
    assert states() == ["sent"] * 4 + ["summarised"] * 4

    later(hours=5)
    assert len(mails_to(user)) == 4


def test_cap_counts_each_user_alone(user, make_user, upload):
    other = make_user()
    upload(user, 5)
    upload(other, 3)
    deliver_due()
    assert (len(mails_to(user)), len(mails_to(other))) == (3, 3)


def test_cap_counts_a_sliding_hour(user, upload, later):
    upload(user, 2)
    deliver_due()
    with time_machine.travel(utc_now() + timedelta(minutes=50), tick=False):
        upload(user, 2)
        deliver_due()
    assert len(mails_to(user)) == 3
    with time_machine.travel(utc_now() + timedelta(minutes=70), tick=False):
        upload(user, 1)
        deliver_due()
    assert sorted(sent.subject for sent in mails_to(user)[3:]) == [
        "MyoMetrics: 1 more notification",
        "MyoMetrics: an upload is complete",
    ]


def test_later_message_joins_the_pending_summary(user, upload, later):
    upload(user, 4)
    deliver_due()
    with time_machine.travel(utc_now() + timedelta(minutes=30), tick=False):
        upload(user, 3)
        deliver_due()
    later(minutes=61)
    assert [sent.subject for sent in mails_to(user)[3:]] == ["MyoMetrics: 4 more notifications"]


def test_retries_of_a_failed_mail_count_once(user, upload, mail_server, settings):
    settings.MYOMETRICS_NOTIFICATIONS = {"MAILS_PER_USER_PER_HOUR": 3}
    mail_server.at_data = "451 try later"
    upload(user, 3)
    for minutes in (0, 5, 10, 15):
        with time_machine.travel(utc_now() + timedelta(minutes=minutes), tick=False):
            deliver_due()
    mail_server.at_data = "250 OK"
    with time_machine.travel(utc_now() + timedelta(minutes=50), tick=False):
        deliver_due()
    assert len(mail_server.accepted) == 3
    assert states() == ["sent"] * 3


def test_response_to_own_request_is_neither_capped_nor_counted(user, upload, media):
    upload(user, 5)
    deliver_due()
    export_request(user=user, export_format="csv")
    write_exports()
    deliver_due()
    assert mails_to(user)[-1].subject == "MyoMetrics: your data export is ready"


def test_summary_respects_the_main_switch(user, upload, later):
    upload(user, 5)
    deliver_due()
    notification_settings_update(user=user, switches={"email_notifications": False})
    later(minutes=61)
    assert len(mails_to(user)) == 3
    assert states() == ["dropped"] + ["sent"] * 3 + ["summarised"] * 2


def test_summary_is_in_the_recipients_language(user, upload, later, settings):
    settings.MYOMETRICS_NOTIFICATIONS = {
        "MAILS_PER_USER_PER_HOUR": 3,
        "RECIPIENT_LANGUAGE": lambda user: "de",
    }
    upload(user, 5)
    deliver_due()
    later(minutes=61)
    assert mails_to(user)[-1].subject == "MyoMetrics: 2 weitere Benachrichtigungen"


def test_message_with_a_lost_claim_makes_no_summary(user, upload):
    upload(user, 4)
    for message in list(Message.objects.order_by("pk"))[:3]:
        deliver(message)
    message = Message.objects.get(state="queued")
    job = claim_job(job_of(message).pk, job_kind(DELIVER))
    Job.objects.filter(pk=job.pk).update(claimed_by=uuid.uuid4())
    assert not message_admit(message=message, job=job)
    assert states() == ["queued"] + ["sent"] * 3


def test_summarised_messages_are_purged_like_sent_ones(user, upload):
    upload(user, 5)
    deliver_due()
    with time_machine.travel(utc_now() + timedelta(days=31), tick=False):
        assert messages_purge() == 5


def test_summary_whose_messages_are_purged_is_dropped(user, upload, later):
    upload(user, 5)
    deliver_due()
    Message.objects.filter(state="summarised").delete()
    later(minutes=61)
    assert len(mails_to(user)) == 3
    assert states() == ["dropped"] + ["sent"] * 3


@pytest.mark.django_db(transaction=True)
def test_concurrent_workers_keep_the_cap_exactly(user, upload, run_concurrently):
    upload(user, 20)
    waiting = list(Message.objects.all())
    lock = Lock()

    def deliver_one():
        with lock:
            message = waiting.pop()
        try:
            return deliver(message)
        finally:
            connection.close()

    assert run_concurrently(deliver_one, times=20) == [True] * 20
    assert len(mails_to(user)) == 3
    assert states() == ["queued"] + ["sent"] * 3 + ["summarised"] * 17
