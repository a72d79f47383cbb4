"""A download is streamed, under WSGI and ASGI alike."""

import asyncio

import pytest
from django.test import AsyncRequestFactory, RequestFactory
from rest_framework.request import Request

from myometrics_core.downloads import download_response


def chunks(made):
    for number in range(3):
        made.append(number)
        yield b"%d" % number


def test_nothing_is_read_before_it_is_sent():
    made = []
    response = download_response(RequestFactory().get("/"), chunks(made), "data.csv")
    assert made == []
    parts = iter(response.streaming_content)
    assert next(parts) == b"0"
    assert made == [0]
    assert b"".join(parts) == b"12"


@pytest.mark.parametrize("wrap", [lambda request: request, Request], ids=["django", "drf"])
def test_under_asgi_too(wrap):
    made = []
    request = wrap(AsyncRequestFactory().get("/"))

    async def read():
        response = download_response(request, chunks(made), "data.csv")
        assert response.is_async
        first = await anext(aiter(response.streaming_content))
        assert (first, made) == (b"0", [0])

    asyncio.run(read())


def test_it_is_an_attachment_of_unknown_type():
    response = download_response(RequestFactory().get("/"), iter([b""]), "user_data.json")
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"] == 'attachment; filename="user_data.json"'
