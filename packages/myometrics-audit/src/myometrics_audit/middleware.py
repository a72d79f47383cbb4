"""The middleware ``RecordingMiddleware``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

from .log.recordings import Recording

__all__ = ["RecordingMiddleware"]


class RecordingMiddleware:
    """Opens a recording for each request, so that durable entries survive ``ATOMIC_REQUESTS``.

    The recording has no actor and no purpose. Entries that the rollback of the request has removed
    are written again before the response is sent.
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
        with Recording({}, is_outermost=True):
            response: HttpResponse = self.get_response(request)
            return response

    async def _respond_async(self, request: HttpRequest) -> HttpResponse:
        async with Recording({}, is_outermost=True):
            response: HttpResponse = await self.get_response(request)
            return response
