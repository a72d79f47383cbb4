"""The access log: one line for each request, under WSGI and ASGI.

Specification: "Logging".
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.utils.functional import LazyObject, empty

from .accesses import access_answered
from .client_address import client_address
from .metrics import request_answered
from .request_id import HEADER, request_id_of, set_request_id
from .settings import core_settings
from .times import utc_now, utc_text
from .users import user_id_json

__all__ = ["AccessLogMiddleware"]

logger = logging.getLogger("myometrics.access")


class AccessLogMiddleware:
    """Outermost middleware: gives the request an id and logs it once it is answered.

    A line tells user id, address, method, endpoint (the route, so that no id or query string is
    logged), status, milliseconds, request id and time, as attributes of the log record.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        """Answer the request, then log it."""
        if self.is_async:
            return self._answer_async(request)
        started = self._begin(request)
        return self._finish(request, self.get_response(request), started)

    async def _answer_async(self, request: HttpRequest) -> HttpResponse:
        started = self._begin(request)
        return self._finish(request, await self.get_response(request), started)

    def _begin(self, request: HttpRequest) -> float:
        request.request_id = request_id_of(request)  # type: ignore[attr-defined]
        set_request_id(request.request_id)  # type: ignore[attr-defined]
        return time.perf_counter()

    def _finish(self, request: HttpRequest, response: HttpResponse, started: float) -> HttpResponse:
        request_id: str = request.request_id  # type: ignore[attr-defined]
        response.headers[HEADER] = request_id
        if request.path not in core_settings.ACCESS_LOG_EXCLUDE:
            seconds, endpoint = time.perf_counter() - started, _endpoint(request)
            request_answered(str(request.method), endpoint, response.status_code, seconds)
            fields = {
                "user_id": _user_id(request),
                "address": client_address(request),
                "method": request.method,
                "endpoint": endpoint,
                "status": response.status_code,
                "milliseconds": round(seconds * 1000, 1),
                "request_id": request_id,
                "time": utc_text(utc_now()),
            }
            logger.info("%(method)s %(endpoint)s %(status)s", fields, extra=fields)
            access_answered(fields)
        return response


def _user_id(request: HttpRequest) -> int | str | None:
    # A lazy user that nobody has looked at is left alone: to log must cost no query.
    user = getattr(request, "user", None)
    if isinstance(user, LazyObject) and user._wrapped is empty:
        return None
    return user_id_json(getattr(user, "pk", None))


def _endpoint(request: HttpRequest) -> str:
    match = getattr(request, "resolver_match", None)
    return f"/{match.route}" if match is not None else "(unknown)"
