"""System checks of the access table."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.utils.module_loading import import_string

from ..middleware import AccessLogMiddleware
from ..site_checks import register_check

__all__ = ["register_checks"]


def register_checks() -> None:
    """Register the checks with ``manage.py check``."""
    register_check(check_middleware, app="myometrics_core")


def check_middleware(**kwargs: Any) -> list[checks.CheckMessage]:
    """W011: the table is installed, but the middleware that fills it is missing."""
    if any(_is_access_log(path) for path in django_settings.MIDDLEWARE or ()):
        return []
    return [
        checks.Warning(
            "The table of accesses stays empty: the access log's middleware is missing.",
            hint='Put "myometrics_core.middleware.AccessLogMiddleware" first in MIDDLEWARE.',
            id="myometrics_core.W011",
        )
    ]


def _is_access_log(path: str) -> bool:
    try:
        found = import_string(path)
    except ImportError:
        return False
    return isinstance(found, type) and issubclass(found, AccessLogMiddleware)
