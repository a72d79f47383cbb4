"""Background tasks of a site that runs them eagerly."""

import logging

import pytest
from celery import Celery, current_app, shared_task
from django.db import connection, transaction

from myometrics_core.http import current_request_id
from myometrics_core.http.request_id import set_request_id
from myometrics_core.jobs.background import enqueue

pytestmark = pytest.mark.django_db(transaction=True)

runs = []


@shared_task(name="tests.note_run")
def note_run(*args):
    runs.append((args, connection.in_atomic_block, current_request_id()))


@shared_task(name="tests.fail")
def fail():
    raise ZeroDivisionError


@pytest.fixture(params=["app", "settings"])
def eager(request, settings):
    """Eager by the Celery app's own configuration, or by Django's setting; no broker to reach."""
    usual = current_app._get_current_object()
    app = Celery("eager", broker="redis://127.0.0.1:1/0")
    app.set_current()
    if request.param == "app":
        app.conf.task_always_eager = True
    else:
        settings.CELERY_TASK_ALWAYS_EAGER = True
    runs.clear()
    set_request_id("request-1")
    yield app
    set_request_id(None)
    usual.set_current()


def test_eager_task_runs_after_the_commit_with_its_arguments(eager):
    with transaction.atomic():
        enqueue("tests.note_run", 1, "two", countdown=60)
        assert runs == []
    assert runs == [((1, "two"), False, "request-1")]


def test_eager_task_of_a_rolled_back_transaction_does_not_run(eager):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        enqueue("tests.note_run")
        raise ZeroDivisionError
    assert runs == []


@pytest.mark.parametrize("propagates", [False, True])
def test_eager_task_that_fails_is_logged_and_not_raised(eager, caplog, propagates):
    eager.conf.task_eager_propagates = propagates
    caplog.set_level(logging.ERROR)
    enqueue("tests.fail")
    enqueue("tests.note_run")
    assert "ZeroDivisionError" in caplog.text
    assert len(runs) == 1


def test_eager_task_leaves_the_request_its_id(eager):
    enqueue("tests.note_run")
    note_run.apply()
    assert current_request_id() == "request-1"


def test_eager_task_that_is_unknown_is_logged_and_not_raised(eager, caplog):
    enqueue("tests.no_such_task")
    assert "Could not hand over task tests.no_such_task" in caplog.text
