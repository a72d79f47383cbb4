"""Requests that are UTF-8 whatever their ``Content-Type`` says.

JSON is UTF-8 and so are the admin's forms. Django believes a ``charset`` of the client's so early
that ``base64`` or ``undefined`` end the request before any handler of errors is there.
"""

from __future__ import annotations

from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest


class Utf8(HttpRequest):
    """Leaves a charset of the client's alone."""

    @property
    def encoding(self) -> str | None:
        """``None``: the site's own, UTF-8."""
        return None

    @encoding.setter
    def encoding(self, charset: str | None) -> None:
        """Nothing changes."""


class Utf8WSGIRequest(Utf8, WSGIRequest):
    """A request under WSGI."""


class Utf8ASGIRequest(Utf8, ASGIRequest):
    """A request under ASGI."""
