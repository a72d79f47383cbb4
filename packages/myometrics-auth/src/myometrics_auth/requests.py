"""The requests that services accept: Django's, or DRF's around it."""

from __future__ import annotations

from typing import TypeAlias

from django.http import HttpRequest
from rest_framework.request import Request

__all__ = ["AnyRequest"]

AnyRequest: TypeAlias = HttpRequest | Request
