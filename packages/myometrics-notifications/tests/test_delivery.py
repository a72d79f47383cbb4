"""Delivery: claim, send, finish, and the mail server's failures."""

import socket
import threading
from datetime import timedelta

import pytest
from conftest import PATIENT
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from job_runs import DELIVER, EXPORT, deliver, deliver_due, end_pauses, job_of, make_due

from myometrics_core.events import publish, publish_many
from myometrics_core.jobs import Job, RetryPolicy, cancel_jobs
from myometrics_core.jobs.claims import claim_job
from myometrics_core.jobs.kinds import job_kind
from myometrics_core.mail import MailConnection
from myometrics_core.times import utc_now
from myometrics_notifications.models import Message
from myometrics_notifications.services import (
    messages_purge,
    messages_retry,
    notification_settings_update,
)
from myometrics_testing.smtp_server import OK
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def test_due_message_is_sent_once(queued, user):
    assert deliver(queued)
    assert not deliver(queued)
    assert deliver_due() == 0

    assert [sent.to for sent in mail.outbox] == [[user.email]]
    queued.refresh_from_db()
    assert (queued.state, queued.last_error) == ("sent", "")
    assert queued.settled_at is not None
    assert not Job.objects.exists()


def test_message_is_not_sent_before_its_time(queued):
    Job.objects.update(run_at=utc_now() + HOUR)

    assert not deliver(queued)
    assert deliver_due() == 0
    assert mail.outbox == []


def test_delivery_ignores_a_deleted_message(queued):
    Message.objects.all().delete()

    assert deliver(queued)
    assert mail.outbox == []
    assert not Job.objects.exists()


def test_claimed_message_is_free_again_after_its_lease(queued):
    assert claim_job(job_of(queued).pk, job_kind(DELIVER))
    assert deliver_due() == 0

    Job.objects.update(claimed_until=utc_now())

    assert deliver_due() == 1
    queued.refresh_from_db()
    assert queued.state == "sent"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("failure", [OperationalError, DatabaseError, InterfaceError])
def test_sent_message_is_recorded_despite_a_lost_connection(make_user, make_event, failure):
    publish(make_event(actor_id=make_user().pk))
    failures = [failure("connection already closed")] * 2

    def fail_after_sending(execute, *statement):
        if mail.outbox and failures:
            raise failures.pop()
        return execute(*statement)

    with connection.execute_wrapper(fail_after_sending):
        assert deliver_due() == 1
    assert Message.objects.get().state == "sent"
    assert len(mail.outbox) == 1
    assert not Job.objects.exists()


def test_mail_of_a_worker_that_lost_its_claim_is_recorded_as_sent(queued, monkeypatch):
    send = MailConnection.send

    def lose_claim(connection, message):
        send(connection, message)
        Job.objects.update(claimed_by=None, claimed_until=None)

    monkeypatch.setattr(MailConnection, "send", lose_claim)
    deliver(queued)

    queued.refresh_from_db()
    assert queued.state == "sent"
    assert deliver_due() == 1
    assert len(mail.outbox) == 1


def test_worker_that_lost_its_claim_does_not_drop_the_message(queued, user, monkeypatch):
    type(user).objects.filter(pk=user.pk).update(is_active=False)
    monkeypatch.setattr(Job, "finish", lambda job: False)

    deliver(queued)

    queued.refresh_from_db()
    assert queued.state == "queued"


@pytest.mark.parametrize(
    "change",
    [
        {"is_active": False},
        {"email": ""},
    ],
)
def test_message_to_unreachable_recipient_is_dropped(queued, user, change):
    type(user).objects.filter(pk=user.pk).update(**change)

    deliver(queued)

    queued.refresh_from_db()
    assert queued.state == "dropped"
    assert mail.outbox == []


def test_delivery_respects_a_switch_turned_off_after_queuing(queued, user):
    notification_settings_update(user=user, switches={"upload_completed": False})

    deliver(queued)

    queued.refresh_from_db()
    assert (queued.state, queued.last_error) == ("dropped", "switched off")
    assert mail.outbox == []


def test_message_is_sent_by_smtp(queued, mail_server, user):
    deliver(queued)

    assert [sent["To"] for sent in mail_server.accepted] == [user.email]
    queued.refresh_from_db()
    assert queued.state == "sent"


@pytest.mark.parametrize("answer", ["451 Later", "hang", "drop"])
@pytest.mark.parametrize("step", ["at_recipient", "at_data"])
def test_temporary_failure_is_retried(queued, mail_server, settings, step, answer):
    setattr(mail_server, step, answer)
    if answer == "hang":
        settings.MYOMETRICS = {**settings.MYOMETRICS, "SMTP_TIMEOUT": 0.5}
    before = utc_now()
    deliver(queued)
    after = utc_now()

    queued.refresh_from_db()
    job = job_of(queued)
    assert (queued.state, job.attempts, job.claimed_by) == ("queued", 1, None)
    assert job.last_error
    pause = timedelta(seconds=30)
    assert before + pause / 2 <= job.run_at <= after + pause

    wait_for(lambda: mail_server.open_connections == 0)
    setattr(mail_server, step, OK)
    settings.MYOMETRICS = {**settings.MYOMETRICS, "SMTP_TIMEOUT": PATIENCE}
    make_due()
    end_pauses()
    deliver_due()

    queued.refresh_from_db()
    assert queued.state == "sent"
    assert len(mail_server.accepted) == 1


@pytest.mark.parametrize("step", ["at_recipient", "at_data"])
def test_permanent_refusal_is_a_dead_letter_without_the_address(queued, mail_server, step, user):
    setattr(mail_server, step, f"550 no such user {user.email}")

    deliver(queued)

    queued.refresh_from_db()
    assert (queued.state, job_of(queued).state) == ("dead", "dead")
    assert queued.last_error.endswith(" 550")
    assert queued.settled_at is not None
    stored = [*Message.objects.values(), *Job.objects.values()]
    assert user.email not in str(stored)


class SilentBackend(BaseEmailBackend):
    """Reports by its return value that it sent nothing."""

    def send_messages(self, email_messages):
        return 0


def test_backend_that_sends_nothing_leaves_the_message_queued(queued, settings):
    settings.EMAIL_BACKEND = f"{__name__}.SilentBackend"

    deliver(queued)

    queued.refresh_from_db()
    assert (queued.state, job_of(queued).last_error) == ("queued", "MailNotSent")


def test_unreachable_mail_server_is_a_temporary_failure(queued, mail_server):
    mail_server.stop()

    deliver(queued)

    queued.refresh_from_db()
    assert queued.state == "queued"
    assert job_of(queued).last_error in ("ConnectionRefusedError", "TimeoutError")


def test_silent_mail_server_costs_one_connection(queued, settings):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = silent.getsockname()
        settings.MYOMETRICS = {**settings.MYOMETRICS, "SMTP_TIMEOUT": 0.5}

        deliver(queued)

        silent.accept()
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
    queued.refresh_from_db()
    assert (queued.state, job_of(queued).last_error) == ("queued", "SMTPServerDisconnected")


def test_last_failed_attempt_makes_a_dead_letter(queued, mail_server, settings):
    settings.MYOMETRICS_NOTIFICATIONS = {**PATIENT, "MAX_ATTEMPTS": 3}
    mail_server.at_data = "451 Later"
    for _ in range(4):
        make_due()
        deliver_due()

    queued.refresh_from_db()
    assert (queued.state, job_of(queued).attempts) == ("dead", 3)


def test_retried_dead_letter_has_all_attempts_again(queued, mail_server):
    mail_server.at_recipient = "550 no"
    deliver(queued)
    queued.refresh_from_db()
    mail_server.at_recipient = OK

    messages_retry(messages=Message.objects.all())

    queued.refresh_from_db()
    assert (queued.state, queued.settled_at) == ("queued", None)
    assert (job_of(queued).state, job_of(queued).attempts) == ("pending", 0)
    deliver(queued)
    assert len(mail_server.accepted) == 1


def test_retry_of_many_messages_uses_few_statements(
    user, make_event, django_assert_max_num_queries
):
    publish_many(make_event(actor_id=user.pk) for _ in range(600))
    Message.objects.update(state="dead", settled_at=utc_now())
    Job.objects.update(state="dead", attempts=9)

    with django_assert_max_num_queries(20):  # SQLite inserts fewer rows per statement
        assert messages_retry(messages=Message.objects.all()) == 600

    assert Message.objects.filter(state="queued", settled_at=None).count() == 600
    assert Job.objects.filter(state="pending", attempts=0).count() == Job.objects.count() == 600


def test_retry_ignores_sent_messages(queued):
    deliver(queued)
    queued.refresh_from_db()

    messages_retry(messages=Message.objects.all())

    queued.refresh_from_db()
    assert queued.state == "sent"


def test_failing_template_leaves_the_message_queued(queued, host_templates):
    host_templates("upload_completed", {"subject.txt": "{% include 'missing.txt' %}"})

    deliver(queued)

    queued.refresh_from_db()
    assert (queued.state, job_of(queued).last_error) == ("queued", "TemplateDoesNotExist")


def test_job_retried_by_the_admin_queues_its_message_again(queued, mail_server):
    mail_server.at_recipient = "550 no"
    deliver(queued)
    job_kind(DELIVER).on_retry(job_of(queued))

    queued.refresh_from_db()
    assert (queued.state, queued.settled_at) == ("queued", None)


def test_message_whose_job_was_cancelled_is_dropped_and_can_be_retried(queued, make_event, user):
    publish(make_event(actor_id=user.pk))
    cancel_jobs(DELIVER, [str(queued.pk)])

    messages_purge()

    assert sorted(Message.objects.values_list("state", flat=True)) == ["dropped", "queued"]
    assert messages_retry(messages=Message.objects.all()) == 1
    assert deliver_due() == 2


def test_retry_policy_is_that_of_the_settings(settings):
    settings.MYOMETRICS_NOTIFICATIONS = {
        "MAX_ATTEMPTS": 7,
        "RETRY_BASE": timedelta(seconds=2),
        "RETRY_CAP": HOUR,
        "LEASE": 2 * HOUR,
        "EXPORT_LEASE": 3 * HOUR,
        "SERVER_PAUSE": timedelta(seconds=9),
    }

    policy = RetryPolicy(max_attempts=7, base=timedelta(seconds=2), cap=HOUR)
    assert [job_kind(name).retry for name in (DELIVER, EXPORT)] == [policy, policy]
    assert [job_kind(name).lease for name in (DELIVER, EXPORT)] == [2 * HOUR, 3 * HOUR]
    assert job_kind(DELIVER).pause == timedelta(seconds=9)


def test_deliveries_pause_after_a_server_failure(queued, mail_server, user, make_event):
    mail_server.at_recipient = "drop"
    deliver(queued)
    publish(make_event(actor_id=user.pk))
    other = Message.objects.exclude(pk=queued.pk).get()
    mail_server.at_recipient = OK

    assert not deliver(other)
    assert deliver_due() == 0

    end_pauses()
    assert deliver_due() == 1
    other.refresh_from_db()
    assert other.state == "sent"


def test_run_stops_after_repeated_server_failures(mail_server, user, make_event):
    for _ in range(10):
        publish(make_event(actor_id=user.pk))
    mail_server.at_recipient = "drop"

    assert deliver_due() == 3
    assert Job.objects.filter(attempts=0).count() == 7


def test_run_uses_one_connection(mail_server, user, make_event):
    for _ in range(10):
        publish(make_event(actor_id=user.pk))

    assert deliver_due() == 10
    assert len(mail_server.accepted) == 10
    assert mail_server.connections == 1


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
def test_concurrent_runs_send_nothing_twice(
    make_user, make_event, run_concurrently, mail_server, settings
):
    settings.MYOMETRICS_NOTIFICATIONS = {**PATIENT, "MAILS_PER_USER_PER_HOUR": 40}
    user = make_user()
    for _ in range(40):
        publish(make_event(actor_id=user.pk))

    attempts = run_concurrently(deliver_due, times=3)

    ids = [sent["Message-ID"] for sent in mail_server.accepted]
    assert len(ids) == len(set(ids)) == 40
    assert sum(attempts) == 40
    assert not Job.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_no_lock_is_held_while_the_mail_server_is_slow(
    make_user, make_event, mail_server, run_concurrently
):
    publish(make_event(actor_id=make_user().pk))
    message = Message.objects.get()
    talking, finish, was_written = threading.Event(), threading.Event(), []

    def take_time(envelope):
        talking.set()
        was_written.append(finish.wait(PATIENCE))
        return OK

    def write_concurrently():
        assert talking.wait(PATIENCE)
        Message.objects.filter(pk=message.pk).update(last_error="written concurrently")
        finish.set()

    mail_server.at_data = take_time

    assert run_concurrently([lambda: deliver(message), write_concurrently]) == [True, None]
    assert was_written == [True]
    message.refresh_from_db()
    assert message.state == "sent"
