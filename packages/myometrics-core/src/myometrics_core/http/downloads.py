"""Streamed file responses under WSGI and ASGI."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.core.signals import got_request_exception
from django.http import HttpRequest, StreamingHttpResponse

from .request_id import current_request_id
from .requests import http_request

if TYPE_CHECKING:
    from rest_framework.request import Request

logger = logging.getLogger("myometrics.core.downloads")


def download_response(
    request: HttpRequest | Request, chunks: Iterator[bytes], filename: str
) -> StreamingHttpResponse:
    """Return ``chunks`` as an ``application/octet-stream`` attachment, in constant memory.

    ``filename`` is ASCII without quotes. The first chunk is read here, so that an error before the
    first byte becomes a normal error response. A later error is logged and raised, and the server
    closes the connection.
    """
    django_request = http_request(request)
    body: Any = _Body(django_request, chunks)
    if isinstance(django_request, ASGIRequest):
        # Under ASGI, Django would read a synchronous iterator into memory before sending it.
        body = _AsyncBody(body)
    response = StreamingHttpResponse(body, content_type="application/octet-stream")
    response["Content-Disposition"] = f'attachment; filename="{filename}"'
    return response


class _Body:
    def __init__(self, request: HttpRequest, chunks: Iterator[bytes]) -> None:
        self._request = request
        self._rest = chunks
        self._chunks = chain([next(chunks, b"")], chunks)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except StopIteration:
            raise
        except Exception as error:
            request_id = getattr(self._request, "request_id", None) or current_request_id()
            extra = {"request_id": request_id, "status_code": 500}
            path = self._request.path
            logger.error("The download at %s broke off", path, exc_info=error, extra=extra)
            got_request_exception.send(sender=download_response, request=self._request)
            raise

    def close(self) -> None:
        if hasattr(self._rest, "close"):
            self._rest.close()


class _AsyncBody:
    def __init__(self, body: _Body) -> None:
        self._body = body
        self.close = body.close

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        next_chunk: Any = sync_to_async(next)
        chunk: bytes | None = await next_chunk(self._body, None)
        if chunk is None:
            raise StopAsyncIteration
        return chunk
