"""Delivery: claim, send, finish, and the mail server's failures."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta
from functools import partial

import pytest
from conftest import PATIENT
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from myometrics_core.events import publish, publish_many
from myometrics_core.times import utc_now
from myometrics_notifications.conf import notifications_settings
from myometrics_notifications.delivery import message_deliver, messages_sweep
from myometrics_notifications.leases import back_off, claim, finish
from myometrics_notifications.models import Message
from myometrics_notifications.server_pause import server_pause
from myometrics_notifications.services import messages_retry, notification_settings_update
from myometrics_testing.smtp_server import OK
from myometrics_testing.waiting import PATIENCE

pytestmark = pytest.mark.django_db


def claim_message(message):
    return claim(Message, message.pk, notifications_settings.LEASE)


def make_due(message):
    Message.objects.filter(pk=message.pk).update(next_attempt_at=utc_now())


def test_due_message_is_sent_once(queued, user):
    message_deliver(message_id=queued.pk)
    message_deliver(message_id=queued.pk)
    messages_sweep()

    assert [sent.to for sent in mail.outbox] == [[user.email]]
    queued.refresh_from_db()
    assert (queued.state, queued.attempts, queued.last_error) == ("sent", 1, "")
    assert queued.settled_at is not None
    assert queued.lease_token is queued.leased_until is None


def test_message_is_not_sent_before_its_time(queued):
    Message.objects.update(next_attempt_at=utc_now() + timedelta(hours=1))

    message_deliver(message_id=queued.pk)

    assert messages_sweep() == 0
    assert mail.outbox == []


def test_delivery_ignores_a_deleted_message(queued):
    queued.delete()

    message_deliver(message_id=queued.pk or 1)

    assert mail.outbox == []


def test_claimed_message_is_free_again_after_its_lease(queued):
    assert claim_message(queued) is not None
    assert claim_message(queued) is None
    assert messages_sweep() == 0

    Message.objects.update(leased_until=utc_now() - timedelta(seconds=1))

    assert messages_sweep() == 1
    queued.refresh_from_db()
    assert (queued.state, queued.attempts) == ("sent", 2)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("failure", [OperationalError, DatabaseError, InterfaceError])
def test_finish_is_repeated_after_a_lost_connection(queued, failure):
    leased, failures = claim_message(queued), [failure("connection already closed")]

    def fail_once(execute, *statement):
        if failures:
            raise failures.pop()
        return execute(*statement)

    with connection.execute_wrapper(fail_once):
        assert finish(leased, state="sent") is True
    queued.refresh_from_db()
    assert queued.state == "sent"


def test_worker_without_its_claim_cannot_finish_the_message(queued):
    slow = claim_message(queued)
    Message.objects.update(leased_until=utc_now() - timedelta(seconds=1))
    quick = claim_message(queued)

    assert finish(slow, state="sent") is False

    queued.refresh_from_db()
    assert queued.state == "queued"
    assert queued.lease_token == quick.lease_token


@pytest.mark.parametrize(
    "change",
    [
        {"is_active": False},
        {"email": ""},
    ],
)
def test_message_to_unreachable_recipient_is_dropped(queued, user, change):
    type(user).objects.filter(pk=user.pk).update(**change)

    message_deliver(message_id=queued.pk)

    queued.refresh_from_db()
    assert queued.state == "dropped"
    assert mail.outbox == []


def test_delivery_respects_a_switch_turned_off_after_queuing(queued, user):
    notification_settings_update(user=user, switches={"upload_completed": False})

    message_deliver(message_id=queued.pk)

    queued.refresh_from_db()
    assert (queued.state, queued.last_error) == ("dropped", "switched off")
    assert mail.outbox == []


def test_message_is_sent_by_smtp(queued, mail_server, user):
    message_deliver(message_id=queued.pk)

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
    message_deliver(message_id=queued.pk)
    after = utc_now()

    queued.refresh_from_db()
    assert (queued.state, queued.attempts) == ("queued", 1)
    assert queued.last_error
    pause = timedelta(seconds=30)
    assert before + pause / 2 <= queued.next_attempt_at <= after + pause
    assert queued.lease_token is None

    setattr(mail_server, step, OK)
    settings.MYOMETRICS = {**settings.MYOMETRICS, "SMTP_TIMEOUT": PATIENCE}
    make_due(queued)
    messages_sweep()

    queued.refresh_from_db()
    assert (queued.state, queued.attempts) == ("sent", 2)
    assert len(mail_server.accepted) == 1


@pytest.mark.parametrize("step", ["at_recipient", "at_data"])
def test_permanent_refusal_is_a_dead_letter_without_the_address(queued, mail_server, step, user):
    setattr(mail_server, step, f"550 no such user {user.email}")

    message_deliver(message_id=queued.pk)

    queued.refresh_from_db()
    assert (queued.state, queued.attempts) == ("dead", 1)
    assert queued.last_error.endswith(" 550")
    assert user.email not in str(Message.objects.values().get())


class SilentBackend(BaseEmailBackend):
    """Reports by its return value that it sent nothing."""

    def send_messages(self, email_messages):
        return 0


def test_backend_that_sends_nothing_leaves_the_message_queued(queued, settings):
    settings.EMAIL_BACKEND = f"{__name__}.SilentBackend"

    message_deliver(message_id=queued.pk)

    queued.refresh_from_db()
    assert (queued.state, queued.last_error) == ("queued", "MailNotSent")


def test_unreachable_mail_server_is_a_temporary_failure(queued, mail_server):
    mail_server.stop()

    message_deliver(message_id=queued.pk)

    queued.refresh_from_db()
    assert queued.state == "queued"
    assert queued.last_error in ("ConnectionRefusedError", "TimeoutError")


def test_silent_mail_server_costs_one_connection(queued, settings):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = silent.getsockname()
        settings.MYOMETRICS = {**settings.MYOMETRICS, "SMTP_TIMEOUT": 0.5}

        message_deliver(message_id=queued.pk)

        silent.accept()
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
    queued.refresh_from_db()
    assert (queued.state, queued.last_error) == ("queued", "SMTPServerDisconnected")


def test_last_failed_attempt_makes_a_dead_letter(queued, mail_server, settings):
    settings.MYOMETRICS_NOTIFICATIONS = {**PATIENT, "MAX_ATTEMPTS": 3}
    mail_server.at_data = "451 Later"
    for _ in range(4):
        make_due(queued)
        server_pause.end()
        message_deliver(message_id=queued.pk)

    queued.refresh_from_db()
    assert (queued.state, queued.attempts) == ("dead", 3)


def test_retried_dead_letter_has_all_attempts_again(queued, mail_server):
    mail_server.at_recipient = "550 no"
    message_deliver(message_id=queued.pk)
    queued.refresh_from_db()
    mail_server.at_recipient = OK

    messages_retry(messages=Message.objects.all())

    queued.refresh_from_db()
    assert (queued.state, queued.attempts, queued.settled_at) == ("queued", 0, None)
    message_deliver(message_id=queued.pk)
    assert len(mail_server.accepted) == 1


def test_retry_of_many_messages_uses_few_statements(
    user, make_event, django_assert_max_num_queries
):
    publish_many(make_event(actor_id=user.pk) for _ in range(600))
    Message.objects.update(state="dead", settled_at=utc_now(), attempts=9)

    with django_assert_max_num_queries(10):
        assert messages_retry(messages=Message.objects.all()) == 600

    assert Message.objects.filter(state="queued", attempts=0, settled_at=None).count() == 600


def test_retry_ignores_sent_messages(queued):
    message_deliver(message_id=queued.pk)
    queued.refresh_from_db()

    messages_retry(messages=Message.objects.all())

    queued.refresh_from_db()
    assert queued.state == "sent"


def test_failing_template_leaves_the_message_queued(queued, host_templates):
    host_templates("upload_completed", {"subject.txt": "{% include 'missing.txt' %}"})

    message_deliver(message_id=queued.pk)

    queued.refresh_from_db()
    assert (queued.state, queued.last_error) == ("queued", "TemplateDoesNotExist")


def test_backoff_doubles_up_to_the_cap_with_jitter():
    for attempts in range(1, 200):
        longest = min(30 * 2 ** (attempts - 1), 6 * 3600)
        pauses = {back_off(attempts).total_seconds() for _ in range(20)}
        assert len(pauses) > 1
        assert all(longest / 2 <= pause <= longest for pause in pauses)


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
    deliver = partial(message_deliver, message_id=message.pk)

    assert run_concurrently([deliver, write_concurrently]) == [None, None]
    assert was_written == [True]
    message.refresh_from_db()
    assert message.state == "sent"
