"""Streamed downloads under WSGI and ASGI, and their failures."""

import asyncio
import logging

import django
import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import got_request_exception
from django.test import AsyncRequestFactory, RequestFactory
from rest_framework.request import Request

from myometrics_core.http import download_response
from myometrics_core.middleware import AccessLogMiddleware

pytestmark = pytest.mark.usefixtures("keep_connections")
# Django 4.2 sends on, and the server drops what it gets.
DISCONNECTS_ARE_NOTICED = django.VERSION >= (5, 0)


def chunks(made):
    try:
        for number in range(3):
            made.append(number)
            yield b"%d" % number
    finally:
        made.append("closed")


@pytest.fixture
def exceptions():
    """Requests of Django's signal ``got_request_exception``."""
    requests = []

    def note(request, **kwargs):
        requests.append(request)

    got_request_exception.connect(note)
    yield requests
    got_request_exception.disconnect(note)


@pytest.fixture
def logged(caplog):
    """Records of a logger, by its last name."""
    caplog.set_level(logging.INFO)

    def records(name):
        return [record for record in caplog.records if record.name.endswith(f"myometrics.{name}")]

    return records


def test_only_the_first_chunk_is_read_before_it_is_sent():
    made = []
    response = download_response(RequestFactory().get("/"), chunks(made), "data.csv")
    assert made == [0]
    parts = iter(response.streaming_content)
    assert next(parts) == b"0"
    assert made == [0]
    assert b"".join(parts) == b"12"


@pytest.mark.parametrize("wrap", [lambda request: request, Request], ids=["django", "drf"])
def test_download_is_streamed_under_asgi(wrap):
    made = []
    request = wrap(AsyncRequestFactory().get("/"))

    async def read():
        response = download_response(request, chunks(made), "data.csv")
        assert response.is_async
        first = await anext(aiter(response.streaming_content))
        assert (first, made) == (b"0", [0])

    asyncio.run(read())


@pytest.mark.parametrize("factory", [RequestFactory, AsyncRequestFactory], ids=["wsgi", "asgi"])
def test_closing_response_closes_the_chunks(factory):
    made = []
    response = download_response(factory().get("/"), chunks(made), "data.csv")
    response.close()
    assert made == [0, "closed"]


def test_download_is_an_octet_stream_attachment():
    response = download_response(RequestFactory().get("/"), iter([b""]), "user_data.json")
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"] == 'attachment; filename="user_data.json"'


def test_empty_download_is_sent():
    response = download_response(RequestFactory().get("/"), iter(()), "user_data.json")
    assert b"".join(response) == b""


@pytest.mark.django_db
def test_error_before_the_first_byte_is_an_error_response(client, logged):
    client.raise_request_exception = False
    response = client.get("/api/download/0/")
    assert response.status_code == 500
    assert response.json() == {
        "detail": "A server error occurred.",
        "code": "error",
        "field_errors": {},
    }
    assert response["X-Request-ID"]
    assert [record.status for record in logged("access")] == [500]


@pytest.mark.django_db
def test_download_is_logged_once_it_is_sent(client, logged):
    response = client.get("/api/download/9/")
    assert logged("access") == []
    assert response.getvalue() == b"012"
    response.close()
    assert [record.status for record in logged("access")] == [200]


@pytest.mark.django_db
def test_aborted_download_is_logged_and_counted_as_500(client, logged, exceptions):
    response = client.get("/api/download/2/")
    read = []
    with pytest.raises(RuntimeError):
        read.extend(response.streaming_content)
    assert read == [b"0", b"1"]
    response.close()
    (line,) = logged("access")
    assert (line.status, line.endpoint) == (500, "/api/download/<int:whole>/")
    (report,) = logged("core.downloads")
    assert report.request_id == line.request_id == response["X-Request-ID"]
    assert report.exc_info
    assert len(exceptions) == 1


@pytest.mark.django_db
def test_download_of_disconnected_client_is_logged_as_499(client, logged, exceptions):
    response = client.get("/api/download/9/")
    next(iter(response.streaming_content))
    response.close()
    assert [record.status for record in logged("access")] == [499]
    assert exceptions == []


@pytest.mark.django_db
def test_head_of_a_download_is_logged_at_once(client, logged):
    client.head("/api/download/9/")
    assert [record.status for record in logged("access")] == [200]


def asgi_scope(path):
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"testserver")],
        "client": ("203.0.113.5", 50000),
    }


async def ask(path, sent, *, disconnects_after=None):
    """Send a request to Django's ASGI application; its messages go to ``sent``."""
    gone = asyncio.Event()
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive():
        message = next(messages, None)
        if message is None:
            await gone.wait()
            return {"type": "http.disconnect"}
        return message

    async def send(message):
        sent.append(message)
        if len([one for one in sent if one.get("body")]) == disconnects_after:
            gone.set()
            if DISCONNECTS_ARE_NOTICED:
                await asyncio.Event().wait()  # a client that is gone reads nothing more

    application = ASGIHandler()
    await application(asgi_scope(path), receive, send)


@pytest.mark.django_db(transaction=True)
def test_aborted_download_is_incomplete_under_asgi(logged, exceptions):
    sent = []
    with pytest.raises(RuntimeError):
        asyncio.run(ask("/api/download/2/", sent))
    assert [message["body"] for message in sent[1:]] == [b"0", b"1"]
    assert all(message["more_body"] for message in sent[1:])
    assert [record.status for record in logged("access")] == [500]
    assert len(exceptions) == 1


@pytest.mark.django_db(transaction=True)
def test_complete_download_is_logged_as_200_under_asgi(logged):
    sent = []
    asyncio.run(ask("/api/download/9/", sent))
    assert b"".join(message.get("body", b"") for message in sent) == b"012"
    assert [record.status for record in logged("access")] == [200]


@pytest.mark.django_db(transaction=True)
def test_disconnected_client_is_logged_as_499_under_asgi(logged, exceptions):
    sent = []
    asyncio.run(ask("/api/download/9/", sent, disconnects_after=1))
    assert [record.status for record in logged("access")] == [
        499 if DISCONNECTS_ARE_NOTICED else 200
    ]
    assert exceptions == []


def test_cancelled_request_is_logged_under_asgi(logged):
    async def view(request):
        raise asyncio.CancelledError

    async def answer():
        await AccessLogMiddleware(view)(AsyncRequestFactory().get("/slow/"))

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(answer())
    assert [record.status for record in logged("access")] == [499]
