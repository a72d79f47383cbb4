"""Requests that are UTF-8 regardless of their ``Content-Type``, with complete bodies.

JSON is UTF-8, and so are the admin's forms. Django applies the client's ``charset`` so early that
``base64`` or ``undefined`` fail outside of every error handler.
"""

from __future__ import annotations

from typing import IO, Any

from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import LimitedStream, WSGIRequest
from django.http import HttpRequest

from myometrics_core.http import content_length


class Utf8(HttpRequest):
    """Ignores the client's charset."""

    @property
    def encoding(self) -> str | None:
        """``None``: the site's own, UTF-8."""
        return None

    @encoding.setter
    def encoding(self, charset: str | None) -> None:
        """Ignore the new value."""


class Utf8WSGIRequest(Utf8, WSGIRequest):
    """A WSGI request whose body can't be read if the client sends less than announced."""

    def __init__(self, environ: dict[str, Any]) -> None:
        super().__init__(environ)
        body: Any = CompleteBody(environ["wsgi.input"])
        self._stream: Any = LimitedStream(body, content_length(self))


class CompleteBody:
    """Raises ``OSError``, which Django expects, if a body ends before its ``Content-Length``.

    WSGI servers return the data that has arrived, and a truncated form may still be valid.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        while len(data) < size:
            data += self._more(self._stream.read(size - len(data)))
        return data

    def readline(self, size: int) -> bytes:
        return self._more(self._stream.readline(size))

    def _more(self, data: bytes) -> bytes:
        if not data:
            raise ConnectionResetError("The body ended before its Content-Length.")
        return data


class Utf8ASGIRequest(Utf8, ASGIRequest):
    """An ASGI request."""
