"""HTTP: batches of documents, confirmed by the status; FHIR servers confirm each entry."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Final

from django.utils import timezone
from django.utils.http import parse_http_date_safe

from ..options import StreamOptions
from .base import (
    Message,
    MessagesRefused,
    ReceiverFailed,
    Transport,
    tls_context,
)
from .sockets import TimedConnection, TimedSocket, TimedTLSSocket

REFUSED: Final = (400, 413, 422)
"""Statuses that are about the messages; all others are about the receiver or the settings."""
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
MAX_RETRY_AFTER: Final = timedelta(hours=1)


class HttpTransport(Transport):
    """One connection, kept open. Follows no redirects and uses no proxy."""

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._body = options.body or ("fhir" if options.format == "fhir" else "ndjson")
        if self._body == "single" and options.format == "fhir":
            self._body = "single fhir"
        self._connection: HTTPConnection | None = None

    def open(self) -> None:
        options = self._options
        timeout = options.timeout_seconds
        if options.scheme == "https":
            context = tls_context(options)
            context.sslsocket_class = TimedTLSSocket
            self._connection = HTTPSConnection(
                options.host, options.port, timeout=timeout, context=context
            )
        else:
            self._connection = TimedConnection(options.host, options.port, timeout=timeout)
        self._connection.connect()

    def send(self, messages: Sequence[Message]) -> None:
        content_type, join = JOINED[self._body]
        status, retry_after, answer = self._post(join(messages), content_type)
        if 200 <= status < 300:
            if self._body == "fhir":
                _check_bundle(answer, len(messages))
            return
        if status in REFUSED:
            text = f"HTTP {status}"
            raise MessagesRefused(text, {0: text} if len(messages) == 1 else None)
        raise ReceiverFailed(f"HTTP {status}{HINTS.get(status, '')}", retry_after=retry_after)

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    close = abort

    def _post(self, body: bytes, content_type: str) -> tuple[int, timedelta | None, bytes]:
        if self._connection is None:
            raise ReceiverFailed("there is no connection")
        headers = {"Content-Type": content_type, **self._authorization()}
        if self._options.gzip:
            body, headers["Content-Encoding"] = gzip.compress(body, mtime=0), "gzip"
        parts = self._options.parts
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if self._connection.sock is None:  # The receiver closed it after its last response.
            self._connection.connect()
        if isinstance(self._connection.sock, TimedSocket):
            self._connection.sock.limit(self._options.timeout_seconds)
        self._connection.request("POST", target, body, headers)
        response = self._connection.getresponse()
        answer = response.read(MAX_ANSWER_BYTES + 1)
        if len(answer) > MAX_ANSWER_BYTES:
            self._connection.close()  # The rest of the response is not read.
        return response.status, _retry_after(response), answer

    def _authorization(self) -> dict[str, str]:
        try:
            token = self._options.read_token()
        except (OSError, UnicodeDecodeError) as error:
            name = type(error).__name__
            raise ReceiverFailed(f"token_file can't be read ({name})") from None
        if not token:
            return {}
        default = "Splunk" if self._body == "splunk" else "Bearer"
        value = f"{self._options.token_scheme or default} {token}"
        if not value.isascii() or not value.isprintable():
            raise ReceiverFailed("the token has characters that no header can have")
        return {"Authorization": value}


HINTS: Final = {
    401: " (the token is not accepted)",
    403: " (the token is not accepted)",
    404: " (is the path of the url right?)",
    405: " (is the path of the url right?)",
    415: " (is the format or body right?)",
    **dict.fromkeys((301, 302, 303, 307, 308), " (redirects are not followed)"),
}


def _retry_after(response: HTTPResponse) -> timedelta | None:
    value = (response.getheader("Retry-After") or "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        seconds = float(value)
    elif moment := parse_http_date_safe(value):
        seconds = moment - timezone.now().timestamp()
    else:
        return None
    return min(timedelta(seconds=max(seconds, 0.0)), MAX_RETRY_AFTER)


def _check_bundle(answer: bytes, sent: int) -> None:
    """Raise unless the response to a batch says that each of its entries was created."""
    try:
        entries = json.loads(answer)["entry"]
        statuses = [int(str(entry["response"]["status"])[:3]) for entry in entries]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ReceiverFailed("the answer is not a FHIR Bundle") from None
    if len(statuses) != sent:
        raise ReceiverFailed("the answer has another number of entries than the batch")
    refused = {
        index: f"FHIR status {status}" for index, status in enumerate(statuses) if status in REFUSED
    }
    for index, status in enumerate(statuses):
        if not 200 <= status < 300 and index not in refused:
            raise ReceiverFailed(f"FHIR status {status}", accepted=index, refused=refused)
    if refused:
        raise MessagesRefused("some are refused", refused)


def _lines(messages: Sequence[Message]) -> bytes:
    return b"".join(message.body + b"\n" for message in messages)


def _array(messages: Sequence[Message]) -> bytes:
    return b"[" + b",".join(message.body for message in messages) + b"]"


def _splunk(messages: Sequence[Message]) -> bytes:
    """Wrap each document for Splunk's HTTP Event Collector."""
    return b"\n".join(
        b'{"time":%.3f,"source":"myometrics","event":%s}'
        % (message.entry.timestamp.timestamp(), message.body)
        for message in messages
    )


def _bundle(messages: Sequence[Message]) -> bytes:
    request = b'"request":{"method":"POST","url":"AuditEvent"}'
    entries = (b'{"resource":%s,%s}' % (message.body, request) for message in messages)
    return b'{"resourceType":"Bundle","type":"batch","entry":[%s]}' % b",".join(entries)


def _alone(messages: Sequence[Message]) -> bytes:
    return messages[0].body


Join = Callable[[Sequence[Message]], bytes]

JOINED: Final[dict[str, tuple[str, Join]]] = {
    "ndjson": ("application/x-ndjson", _lines),
    "array": ("application/json", _array),
    "splunk": ("application/json", _splunk),
    "fhir": ("application/fhir+json", _bundle),
    "single": ("application/json", _alone),
    "single fhir": ("application/fhir+json", _alone),
}
"""Body → content type and function."""
