"""The access log: one line per request, under WSGI and ASGI. Specification: "Logging"."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.utils.functional import LazyObject, empty

from .conf.core_settings import core_settings
from .http.addresses import client_address
from .http.request_id import HEADER, request_id_of, set_request_id
from .observability.metrics import notify_observers
from .times import utc_now, utc_text
from .users.user_model import user_id_json

__all__ = ["AccessLogMiddleware"]

logger = logging.getLogger("myometrics.access")

CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's status for a client that disconnected before the response; there is no standard one."""


class AccessLogMiddleware:
    """Outermost middleware: assigns the request id and logs the request once it is completed.

    The log record has the attributes user id, address, method, endpoint (the route, so that ids and
    query strings are not logged), status, milliseconds, request id and time. A streamed response is
    logged when it ends: with 500 if it was aborted, with 499 if the client disconnected. A request
    that is cancelled under ASGI because the client disconnected is logged with 499, too.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        if self.is_async:
            return self._respond_async(request)
        started = self._begin(request)
        return self._finish(request, self.get_response(request), started)

    async def _respond_async(self, request: HttpRequest) -> HttpResponse:
        started = self._begin(request)
        try:
            response = await self.get_response(request)
        except asyncio.CancelledError:
            if request.path not in core_settings.ACCESS_LOG_EXCLUDE:
                _log(request, started, CLIENT_CLOSED_REQUEST)
            raise
        return self._finish(request, response, started)

    def _begin(self, request: HttpRequest) -> float:
        request.request_id = request_id_of(request)  # type: ignore[attr-defined]
        set_request_id(request.request_id)  # type: ignore[attr-defined]
        return time.perf_counter()

    def _finish(self, request: HttpRequest, response: Any, started: float) -> HttpResponse:
        response.headers[HEADER] = request.request_id  # type: ignore[attr-defined]
        if request.path not in core_settings.ACCESS_LOG_EXCLUDE:
            log = partial(_log, request, started)
            # Don't wrap a file: the server may send it with sendfile.
            is_file = getattr(response, "file_to_stream", None) is not None
            if response.streaming and not is_file and request.method != "HEAD":
                stream = _AsyncStream if response.is_async else _Stream
                chunks = stream(response.streaming_content, response.status_code, log)
                response.streaming_content = chunks
            else:
                log(response.status_code)
        return response


def _log(request: HttpRequest, started: float, status: int) -> None:
    seconds = time.perf_counter() - started
    match = getattr(request, "resolver_match", None)
    endpoint = f"/{match.route}" if match is not None else "(unknown)"
    # Don't evaluate a lazy user: logging must not cause a query.
    user = getattr(request, "user", None)
    is_evaluated = not (isinstance(user, LazyObject) and user._wrapped is empty)
    notify_observers(str(request.method), endpoint, status, seconds)
    fields = {
        "user_id": user_id_json(getattr(user, "pk", None)) if is_evaluated else None,
        "address": client_address(request),
        "method": request.method,
        "endpoint": endpoint,
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
        "request_id": request.request_id,  # type: ignore[attr-defined]
        "time": utc_text(utc_now()),
    }
    logger.info("%(method)s %(endpoint)s %(status)s", fields, extra=fields)


class _Outcome:
    """Logs a streamed response once: with its status if completed, else with 500 or 499."""

    def __init__(self, content: Any, status: int, log: Callable[[int], None]) -> None:
        self.content = content
        self.status = status
        self.log: Callable[[int], None] | None = log

    def end(self, status: int) -> None:
        log, self.log = self.log, None
        if log is not None:
            log(status)

    def close(self) -> None:
        self.end(CLIENT_CLOSED_REQUEST)


class _Stream(_Outcome):
    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self.content)
        except StopIteration:
            self.end(self.status)
            raise
        except BaseException:
            self.end(500)
            raise


class _AsyncStream(_Outcome):
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self.content)
        except StopAsyncIteration:
            self.end(self.status)
            raise
        except asyncio.CancelledError:
            self.end(CLIENT_CLOSED_REQUEST)
            raise
        except BaseException:
            self.end(500)
            raise
