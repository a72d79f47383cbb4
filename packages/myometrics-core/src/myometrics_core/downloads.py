"""Files as answers, streamed under WSGI and ASGI alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import StreamingHttpResponse

from .requests import http_request

__all__ = ["download_response"]


def download_response(
    request: Any, chunks: Iterator[bytes], filename: str
) -> StreamingHttpResponse:
    """``chunks`` as an attachment of type ``application/octet-stream``, in constant memory.

    Takes a Django or DRF request. ``filename`` is ASCII without quotes.
    """
    body: Any = chunks
    if isinstance(http_request(request), ASGIRequest):
        # Django would collect a plain iterator in memory before sending any of it.
        body = _from_threads(chunks)
    response = StreamingHttpResponse(body, content_type="application/octet-stream")
    response["Content-Disposition"] = f'attachment; filename="{filename}"'
    return response


async def _from_threads(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    end = object()
    next_chunk: Any = sync_to_async(next)
    while (chunk := await next_chunk(chunks, end)) is not end:
        yield chunk
