"""Access log: one line per request, without the query string."""

import asyncio
import logging
import uuid
from contextvars import Context

import pytest
from celery import current_app, shared_task, signals
from django.test import AsyncClient, Client

from myometrics_core.http import RequestIdFilter
from myometrics_core.http.request_id import TASK_HEADER, current_request_id, set_request_id
from myometrics_core.jobs.celery_requests import TaskRequest

pytestmark = pytest.mark.usefixtures("long_dependency_timeouts")


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="myometrics.access")
    return lambda: [record for record in caplog.records if record.name == "myometrics.access"]


def test_access_log_line_has_every_specified_field(lines, signed_in, user):
    response = signed_in.get("/api/health/?token=secret", REMOTE_ADDR="203.0.113.5")
    (line,) = lines()
    assert line.user_id == str(user.pk)
    assert line.address == "203.0.113.5"
    assert (line.method, line.endpoint, line.status) == ("GET", "/api/health/", 200)
    assert line.time.endswith("Z")
    assert line.milliseconds >= 0
    assert line.request_id == response["X-Request-ID"]
    assert "secret" not in str(vars(line))


def test_access_log_has_route_instead_of_path(lines, client, db):
    client.get("/api/faulty/missing/")
    assert lines()[0].endpoint == "/api/faulty/<str:what>/"


def test_request_id_is_accepted_only_if_well_formed(client, db):
    given = uuid.uuid4().hex
    assert client.get("/readyz", HTTP_X_REQUEST_ID=given)["X-Request-ID"] == given
    forged = 'x"\nlevel=ERROR'
    assert client.get("/readyz", HTTP_X_REQUEST_ID=forged)["X-Request-ID"] != forged


def test_excluded_paths_are_not_logged(lines, client, db):
    client.get("/livez")
    assert lines() == []


@pytest.mark.django_db(transaction=True)
def test_access_log_works_under_asgi(lines):
    response = asyncio.run(AsyncClient().get("/api/health/"))
    (line,) = lines()
    assert (line.endpoint, line.status) == ("/api/health/", response.status_code)
    assert line.user_id is None


def test_access_log_runs_no_query(django_assert_num_queries, db, user):
    client = Client()
    client.force_login(user)
    with django_assert_num_queries(0):
        client.get("/api/nothing")


seen_in_tasks = []


@shared_task(name="tests.note_request_id")
def note_request_id():
    seen_in_tasks.append(current_request_id())


def test_task_has_request_id_of_its_sender(celery_worker_here):
    seen_in_tasks.clear()
    set_request_id("request-4711")
    note_request_id.delay()
    celery_worker_here(lambda: seen_in_tasks)
    set_request_id(None)
    assert seen_in_tasks == ["request-4711"]


def test_filter_adds_request_id_to_log_records():
    set_request_id("request-4712")
    record = logging.LogRecord("x", logging.INFO, "", 0, "", None, None)
    assert RequestIdFilter().filter(record)
    assert record.request_id == "request-4712"
    set_request_id(None)


class AcceptedMessage:
    """A broker's message, as far as a worker's request reads it."""

    def __init__(self, request_id):
        self.headers = {"id": "7", "task": note_request_id.name, TASK_HEADER: request_id}
        self.body, self.payload = b"[[], {}, {}]", [[], {}, {}]
        self.content_type, self.content_encoding = "application/json", "utf-8"
        self.delivery_info, self.properties = {}, {}


def test_worker_log_lines_about_task_have_request_id(caplog):
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
