"""Sends the requests of DRF's test client through Django's ASGI handler, as a server would."""

from __future__ import annotations

import asyncio
from http.cookies import SimpleCookie
from typing import Any

from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.test.client import conditional_content_removal
from rest_framework.test import ForceAuthClientHandler, force_authenticate

from config.requests import Utf8ASGIRequest

Message = dict[str, Any]


class SiteHandler(ASGIHandler):
    """The handler of ``config.asgi``; keeps its last request and response."""

    request_class = Utf8ASGIRequest
    request: HttpRequest
    response: HttpResponseBase
    prepare: Any

    async def get_response_async(self, request):
        """The response to ``request``, which ``prepare`` may change before."""
        self.prepare(request)
        self.request, self.response = request, await super().get_response_async(request)
        return self.response


class AsgiClientHandler(ForceAuthClientHandler):
    """Replaces the test client's handler; builds the response from the ASGI messages."""

    site: SiteHandler | None = None

    def __call__(self, environ):
        """The response to a request given as a WSGI environment."""
        if self.site is None:
            self.site = SiteHandler()
            self.site.prepare = self._prepare
        body = environ["wsgi.input"].read() if environ.get("CONTENT_LENGTH") else b""
        messages = async_to_sync(_exchange)(self.site, _scope(environ), body)
        response = _response(messages, streaming=self.site.response.streaming)
        conditional_content_removal(self.site.request, response)  # as servers do
        response.wsgi_request = self.site.request
        return response

    def _prepare(self, request):
        request._dont_enforce_csrf_checks = not self.enforce_csrf_checks
        force_authenticate(request, self._force_user, self._force_token)


async def _exchange(site, scope, body):
    sent: list[Message] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if waiting:
            return waiting.pop()
        return await asyncio.get_running_loop().create_future()  # the client stays

    async def send(message):
        sent.append(message)

    await site(scope, receive, send)
    return sent


def _scope(environ):
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower().encode(): _latin1(value)
        for name, value in environ.items()
        if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value)
    }
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": environ["REQUEST_METHOD"],
        "scheme": environ["wsgi.url_scheme"],
        "path": _latin1(environ["PATH_INFO"]).decode("utf-8", "replace"),
        "query_string": _latin1(environ.get("QUERY_STRING", "")),
        "root_path": environ.get("SCRIPT_NAME", ""),
        "headers": list(headers.items()),
        "client": (environ.get("REMOTE_ADDR"), 50_000) if environ.get("REMOTE_ADDR") else None,
        "server": (environ["SERVER_NAME"], int(environ["SERVER_PORT"])),
    }


def _latin1(text):
    return str(text).encode("latin-1", "replace")


def _response(messages, *, streaming):
    start, *parts = messages
    content = b"".join(part.get("body", b"") for part in parts)
    response: HttpResponseBase
    if streaming:
        response = StreamingHttpResponse([content], status=start["status"])
    else:
        response = HttpResponse(content, status=start["status"])
    del response.headers["Content-Type"]
    for name, value in start["headers"]:
        if name.lower() == b"set-cookie":
            response.cookies.update(SimpleCookie(value.decode("latin-1")))
        else:
            response.headers[name.decode("latin-1")] = value.decode("latin-1")
    return response
