"""Request id, shared by a request's log lines, its tasks and its response header."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.http import HttpRequest

HEADER = "X-Request-ID"
TASK_HEADER = "myometrics_request_id"
"""Header of a task message."""
ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)

_request_id: ContextVar[str | None] = ContextVar("myometrics_request_id", default=None)


def current_request_id() -> str | None:
    """Return the id of the current request, or of the request that sent the current task."""
    return _request_id.get()


def set_request_id(request_id: str | None) -> None:
    """Set the current request id of this thread or task."""
    _request_id.set(request_id)


@contextmanager
def request_id_as(request_id: str | None) -> Iterator[None]:
    """Set the current request id within the block."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


def request_id_of(request: HttpRequest) -> str:
    """Return the request's ``X-Request-ID`` if it is well-formed, else a new id."""
    brought = request.headers.get(HEADER, "")
    return brought if ACCEPTABLE.fullmatch(brought) else uuid.uuid4().hex


class RequestIdFilter(logging.Filter):
    """Logging filter that sets ``request_id`` on every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "request_id"):
            record.request_id = current_request_id()
        return True
