"""Access to the Django request and its body from DRF requests."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

if TYPE_CHECKING:
    from rest_framework.request import Request


def http_request(request: HttpRequest | Request) -> HttpRequest:
    """Return the ``HttpRequest`` of a DRF request, or the request itself."""
    return getattr(request, "_request", request)


def content_length(request: HttpRequest | Request) -> int:
    """Return the ``Content-Length``; 0 if missing or not a number."""
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def unsized_body(request: HttpRequest | Request) -> IO[bytes] | None:
    """Return the body of a request without ``Content-Length`` (chunked, or over HTTP/2).

    ``None`` if the request has a length, or if the WSGI server does not mark the end of the body.
    """
    request = http_request(request)
    if request.META.get("CONTENT_LENGTH"):
        return None
    if isinstance(request, ASGIRequest):
        return request  # type: ignore[return-value]  # has read()
    return request.META["wsgi.input"] if request.META.get("wsgi.input_terminated") else None
