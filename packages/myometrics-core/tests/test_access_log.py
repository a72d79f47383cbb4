"""One line for each request: who, from where, what, how it ended. Never the query string."""

import asyncio
import logging
import uuid
from contextvars import Context

import pytest
from celery import Celery, current_app, shared_task, signals
from django.db import transaction
from django.test import AsyncClient, Client

from myometrics_core.http import RequestIdFilter, current_request_id
from myometrics_core.http.request_id import TASK_HEADER, set_request_id
from myometrics_core.jobs.background import enqueue
from myometrics_core.jobs.celery_requests import TaskRequest

pytestmark = pytest.mark.usefixtures("long_dependency_timeouts")


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="myometrics.access")
    return lambda: [record for record in caplog.records if record.name == "myometrics.access"]


def test_a_line_tells_all_that_the_specification_asks(lines, signed_in, person):
    response = signed_in.get("/api/health/?token=secret", REMOTE_ADDR="203.0.113.5")
    (line,) = lines()
    assert line.user_id == str(person.pk)
    assert line.address == "203.0.113.5"
    assert (line.method, line.endpoint, line.status) == ("GET", "/api/health/", 200)
    assert line.time.endswith("Z")
    assert line.milliseconds >= 0
    assert line.request_id == response["X-Request-ID"]
    assert "secret" not in str(vars(line))


def test_the_route_is_logged_not_what_stands_in_the_path(lines, client, db):
    client.get("/api/faulty/missing/")
    assert lines()[0].endpoint == "/api/faulty/<str:what>/"


def test_a_request_id_is_taken_over_only_if_it_is_a_decent_one(client, db):
    given = uuid.uuid4().hex
    assert client.get("/readyz", HTTP_X_REQUEST_ID=given)["X-Request-ID"] == given
    forged = 'x"\nlevel=ERROR'
    assert client.get("/readyz", HTTP_X_REQUEST_ID=forged)["X-Request-ID"] != forged


def test_load_balancers_do_not_fill_the_log(lines, client, db):
    client.get("/livez")
    assert lines() == []


@pytest.mark.django_db(transaction=True)
def test_under_asgi_it_is_the_same(lines):
    response = asyncio.run(AsyncClient().get("/api/health/"))
    (line,) = lines()
    assert (line.endpoint, line.status) == ("/api/health/", response.status_code)
    assert line.user_id is None


def test_logging_costs_no_query(django_assert_num_queries, db, person):
    client = Client()
    client.force_login(person)
    with django_assert_num_queries(0):
        client.get("/api/nothing")


seen_in_tasks = []


@shared_task(name="tests.note_request_id")
def note_request_id():
    seen_in_tasks.append(current_request_id())


def test_a_task_carries_the_id_of_its_request(celery_worker_here):
    seen_in_tasks.clear()
    set_request_id("request-4711")
    note_request_id.delay()
    celery_worker_here(lambda: seen_in_tasks)
    set_request_id(None)
    assert seen_in_tasks == ["request-4711"]


def test_every_log_record_can_carry_it():
    set_request_id("request-4712")
    record = logging.LogRecord("x", logging.INFO, "", 0, "", None, None)
    assert RequestIdFilter().filter(record)
    assert record.request_id == "request-4712"
    set_request_id(None)


@pytest.fixture
def dead_broker():
    usual = current_app._get_current_object()
    Celery("deserted", broker="redis://127.0.0.1:1/0").set_current()
    yield
    usual.set_current()


@pytest.mark.django_db
def test_a_dead_broker_is_logged_and_never_raised(
    caplog, dead_broker, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        enqueue("tests.note_request_id", 1)
    assert "Could not hand over task tests.note_request_id" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_handed_to_nobody(celery_worker_here):
    seen_in_tasks.clear()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        enqueue("tests.note_request_id")
        raise ZeroDivisionError
    set_request_id("request-4713")
    enqueue("tests.note_request_id")
    celery_worker_here(lambda: seen_in_tasks)
    set_request_id(None)
    assert seen_in_tasks == ["request-4713"]


class AcceptedMessage:
    """The parts of a broker's message that a worker's request reads."""

    def __init__(self, request_id):
        self.headers = {"id": "7", "task": note_request_id.name, TASK_HEADER: request_id}
        self.body, self.payload = b"[[], {}, {}]", [[], {}, {}]
        self.content_type, self.content_encoding = "application/json", "utf-8"
        self.delivery_info, self.properties = {}, {}


def test_workers_own_lines_about_a_task_carry_the_id_of_its_request(caplog):
    caplog.handler.addFilter(RequestIdFilter())

    def receive_and_time_out():
        request = TaskRequest(
            AcceptedMessage("request-4714"), app=current_app, task=note_request_id
        )
        assert current_request_id() == "request-4714"
        signals.task_received.send(sender=None, request=request)
        assert current_request_id() is None
        request.on_timeout(soft=True, timeout=1)
        assert current_request_id() is None
        TaskRequest(AcceptedMessage(None), app=current_app, task=note_request_id)
        assert current_request_id() is None

    Context().run(receive_and_time_out)
    (line,) = [record for record in caplog.records if "time limit" in record.getMessage()]
    assert line.request_id == "request-4714"
