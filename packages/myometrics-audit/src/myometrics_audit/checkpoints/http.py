"""HTTP requests to witnesses and time-stamping authorities."""

from __future__ import annotations

from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

TIMEOUT_SECONDS = 10.0
MAX_ANSWER_BYTES = 64 * 1024
REQUEST_FAILURES = (OSError, HTTPException, ValueError)
"""Errors of a request, and of a response that can't be used."""


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener = build_opener(_NoRedirect)


def post(url: str, body: bytes, content_type: str) -> tuple[int, bytes]:
    """Post a body; return the status and the response. Follows no redirects."""
    headers = {"Content-Type": content_type}
    # The settings accept only HTTP URLs.
    request = Request(url, data=body, headers=headers, method="POST")  # noqa: S310
    try:
        with _opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            return response.status, response.read(MAX_ANSWER_BYTES)
    except HTTPError as error:
        with error:
            return error.code, error.read(MAX_ANSWER_BYTES)
