"""Celery tasks run in the recording of the code that sends them."""

from __future__ import annotations

import pytest

pytest.importorskip("celery", reason="Celery is optional")

from celery import chain, chord, shared_task
from celery.contrib.testing.worker import start_worker
from django.db import connections, transaction

from myometrics_audit import audit
from myometrics_audit.models import AuditLog
from myometrics_audit.tracking.celery_tasks import RecordedTask
from myometrics_testing.celery import app
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@shared_task(base=RecordedTask)
def print_letter(number):
    audit.record(action="letter_printed", resource=("letter", number))


@shared_task(base=RecordedTask)
def print_letters(numbers):
    for number in numbers:
        print_letter.delay(number)


@shared_task(base=RecordedTask, bind=True, max_retries=1)
def print_at_second_try(self):
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    audit.record(action="letter_printed", resource=("letter", self.request.retries))


@shared_task(base=RecordedTask)
def fail_in_transaction():
    with transaction.atomic():
        audit.record(action="letter_failed", resource=("letter", 1), durable=True)
        raise RuntimeError


@shared_task(base=RecordedTask)
def open_door():
    audit.record(actor=None, action="door_opened", resource=("door", 1), durable=True)


@pytest.fixture
def worker():
    app.loader.import_default_modules()
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=PATIENCE):
        yield
    connections.close_all()


def rows():
    return list(AuditLog.objects.order_by("id").values_list("action", "user_id", "purpose"))


def test_task_gets_actor_and_purpose_of_the_sender(worker, user):
    with audit.recording(actor=user, purpose="TREAT"):
        print_letter.delay(1)
    wait_for(AuditLog.objects.exists)
    assert rows() == [("letter_printed", user.pk, "TREAT")]


def test_tasks_of_tasks_get_actor_and_purpose(worker, user):
    with audit.recording(actor=user, purpose="TREAT"):
        print_letters.delay([1, 2])
    wait_for(lambda: AuditLog.objects.count() == 2)
    assert set(rows()) == {("letter_printed", user.pk, "TREAT")}


def test_retried_task_keeps_actor_and_purpose(worker, user):
    with audit.recording(actor=user, purpose="TREAT"):
        print_at_second_try.delay()
    wait_for(AuditLog.objects.exists)
    assert rows() == [("letter_printed", user.pk, "TREAT")]


def test_durable_entry_of_a_failed_task_survives(worker, user):
    with audit.recording(actor=user):
        fail_in_transaction.delay()
    wait_for(AuditLog.objects.exists)
    assert rows() == [("letter_failed", user.pk, "")]


def test_task_sent_outside_of_a_recording_has_no_actor(worker):
    result = print_letter.delay(1)
    with pytest.raises(TypeError, match="actor"):
        result.get(timeout=PATIENCE)
    assert rows() == []


def test_anonymous_actor_is_sent(worker):
    with audit.recording(actor=None, purpose="TREAT"):
        print_letter.delay(1)
    wait_for(AuditLog.objects.exists)
    assert rows() == [("letter_printed", None, "TREAT")]


def test_eager_task_gets_actor_and_purpose(user):
    with audit.recording(actor=user, purpose="TREAT"):
        print_letter.apply(args=[1])
        app.conf.task_always_eager = True
        try:
            print_letter.delay(2)
        finally:
            app.conf.task_always_eager = False
    assert rows() == [("letter_printed", user.pk, "TREAT")] * 2


def test_task_called_as_a_function_runs_in_the_current_recording(user):
    with audit.recording(actor=user):
        print_letter(1)
    assert rows() == [("letter_printed", user.pk, "")]


def test_durable_entry_of_a_task_called_in_a_transaction_is_refused():
    """The transaction may still roll back after the task."""
    with pytest.raises(RuntimeError, match="whole transaction"), transaction.atomic():
        open_door()


def test_durable_entry_of_a_task_called_in_a_recording_survives(user):
    with pytest.raises(RuntimeError), audit.recording(actor=user), transaction.atomic():
        fail_in_transaction()
    assert rows() == [("letter_failed", user.pk, "")]


NOTHING = print_letters.si([])


@pytest.mark.parametrize(
    "send",
    [
        lambda: chain(NOTHING, NOTHING, print_letter.si(1)).delay(),
        lambda: chord([NOTHING, NOTHING], print_letter.si(1)).delay(),
        lambda: NOTHING.apply_async(link=print_letter.si(1)),
        lambda: fail_in_transaction.apply_async(link_error=print_letter.si(1)),
    ],
    ids=["chain", "chord", "link", "link_error"],
)
def test_following_task_gets_actor_and_purpose(worker, user, send):
    with audit.recording(actor=user, purpose="TREAT"):
        send()
    wait_for(AuditLog.objects.filter(action="letter_printed").exists)
    assert rows()[-1] == ("letter_printed", user.pk, "TREAT")
