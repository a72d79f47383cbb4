"""The Django request behind DRF's, as core finds it."""

from __future__ import annotations

from myometrics_core.requests import http_request

__all__ = ["http_request"]
