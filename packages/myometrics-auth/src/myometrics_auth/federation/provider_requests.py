"""HTTP requests to identity providers: bounded in time, size and number; no redirects."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from socket import SHUT_RDWR
from typing import Any, Final
from urllib import error, request
from urllib.parse import quote, urlencode

from .conf import Provider
from .errors import ProviderUnavailable

logger = logging.getLogger("myometrics.auth.federation")

MAX_BYTES: Final = 1024 * 1024
CONNECT_SECONDS: Final = 5.0
"""Timeout of connecting, and of each read."""
TOTAL_SECONDS: Final = 10.0
"""Timeout of a whole request, however slowly the response comes."""
MAX_CALLS: Final = 8
QUEUE_SECONDS: Final = 2.0

_calls = threading.BoundedSemaphore(MAX_CALLS)


@dataclass(frozen=True)
class ProviderResponse:
    """The status and the JSON object of a response; ``{}`` unless the body is an object."""

    status: int
    body: Mapping[str, Any]


def fetch_json(
    provider: Provider,
    url: str,
    *,
    form: Mapping[str, str] | None = None,
    bearer: str = "",
    client_auth: str = "",
) -> ProviderResponse:
    """GET ``url``, or POST ``form`` to it.

    ``client_auth`` authenticates our client: ``"basic"`` or ``"post"``. Raises
    ``ProviderUnavailable`` for a provider that can't be reached, is too slow, answers with a status
    of 500 or above, with 429 or a redirect, or with too much; and if too many requests are running.
    """
    headers = {"Accept": "application/json", "User-Agent": "myometrics-auth"}
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    fields = dict(form or {})
    if client_auth == "basic":
        pair = f"{quote(provider.client_id, safe='')}:{quote(provider.client_secret, safe='')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    elif client_auth == "post":
        fields |= {"client_id": provider.client_id, "client_secret": provider.client_secret}
    data = urlencode(fields).encode() if form is not None else None
    with _slot(provider):
        try:
            status, content = _send(request.Request(url, data=data, headers=headers))  # noqa: S310
        except (OSError, HTTPException, ValueError) as failure:
            raise _unavailable(provider, type(failure).__name__) from failure
    if status >= 500 or status == 429 or 300 <= status < 400:
        raise _unavailable(provider, f"status {status}")
    return ProviderResponse(status, _json_object(content))


@contextmanager
def _slot(provider: Provider) -> Iterator[None]:
    if not _calls.acquire(timeout=QUEUE_SECONDS):
        raise _unavailable(provider, "too many calls at once")
    try:
        yield
    finally:
        _calls.release()


def _unavailable(provider: Provider, reason: str) -> ProviderUnavailable:
    logger.warning("The identity provider %r can't be used: %s", provider.slug, reason)
    return ProviderUnavailable()


def _send(to_send: request.Request) -> tuple[int, bytes]:
    deadline = time.monotonic() + TOTAL_SECONDS
    opened: list[Any] = []
    opener = request.OpenerDirector()  # the default opener follows redirects and opens files
    for handler in (
        request.ProxyHandler(),
        *(_plain_handler(opened, deadline), _tls_handler(opened, deadline)),
        *(request.HTTPDefaultErrorHandler(), request.HTTPErrorProcessor()),
        request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    # Timeouts of sockets apply to each read: headers or sizes of chunks that trickle would never
    # time out.
    timer = threading.Timer(TOTAL_SECONDS, _abort, [opened])
    timer.daemon = True
    timer.start()
    try:
        try:
            response = opener.open(to_send, timeout=CONNECT_SECONDS)
        except error.HTTPError as failure:
            response = failure
        with closing(response):
            return int(response.status or 0), _read(response, deadline)
    finally:
        timer.cancel()


def _read(response: Any, deadline: float) -> bytes:
    content = b""
    while True:
        chunk = response.read1(65536)
        content += chunk
        if time.monotonic() > deadline:
            raise TimeoutError("the whole response took too long")
        if len(content) > MAX_BYTES:
            raise ValueError("the response is too large")
        if not chunk:
            break
    if response.length:
        raise ValueError("the response breaks off")
    return content


def _abort(opened: list[Any]) -> None:
    for connection in opened:
        with suppress(OSError, AttributeError):
            (connection.connected or connection.sock).shutdown(SHUT_RDWR)


def _plain_handler(opened: list[Any], deadline: float) -> request.HTTPHandler:
    class Handler(request.HTTPHandler):
        def http_open(self, req: Any) -> Any:
            return self.do_open(_remembering(HTTPConnection, opened, deadline), req)

    return Handler()


def _tls_handler(opened: list[Any], deadline: float) -> request.HTTPSHandler:
    class Handler(request.HTTPSHandler):
        def https_open(self, req: Any) -> Any:
            return self.do_open(_remembering(HTTPSConnection, opened, deadline), req)

    return Handler()


def _remembering(kind: Any, opened: list[Any], deadline: float) -> Any:
    class Connection(kind):  # type: ignore[misc]
        connected: Any = None  # kept, because urllib takes ``sock`` away once the body begins

        def connect(self) -> None:
            opened.append(self)
            super().connect()
            self.connected = self.sock
            if time.monotonic() > deadline:  # the name or its addresses took too long
                raise TimeoutError("connecting took too long")

    return Connection


def _json_object(content: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
