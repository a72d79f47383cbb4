"""The Django request behind DRF's: what signals and Django's own functions expect."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

__all__ = ["http_request"]


def http_request(request: Any) -> HttpRequest:
    """The ``HttpRequest`` of a DRF request, or the request itself."""
    return getattr(request, "_request", request)
