"""System checks of core beyond the settings' own: what is unsafe though it is well-formed."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.core import checks

from .throttling import storage_uri

__all__ = ["register_checks"]


def register_checks() -> None:
    """Have ``manage.py check`` run them."""
    checks.register(check_rate_limit_storage)


def check_rate_limit_storage(**kwargs: Any) -> list[checks.CheckMessage]:
    """W010: each process counts for itself, so several let several times the rate through."""
    if django_settings.DEBUG or not storage_uri().startswith("memory:"):
        return []
    return [
        checks.Warning(
            "Rate limits are counted in the memory of each process.",
            hint=(
                'Set MYOMETRICS["RATE_LIMIT_STORAGE"] to a Redis URL, or add '
                '"myometrics_core.rate_limits" to INSTALLED_APPS and migrate.'
            ),
            id="myometrics_core.W010",
        )
    ]
