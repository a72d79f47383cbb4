"""System checks: what a host's settings can get wrong about analytics."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.core import checks

from .conf import analytics_settings
from .filters import person_field

__all__ = ["register_checks"]


def register_checks() -> None:
    """Have ``manage.py check`` run them."""
    checks.register(check_time_zone_support)
    checks.register(check_person_fields)


def check_time_zone_support(**kwargs: Any) -> list[checks.CheckMessage]:
    """``myometrics_analytics.E010``: days are UTC days, so times must be aware."""
    if django_settings.USE_TZ:
        return []
    return [
        checks.Error(
            "Analytics counts in UTC days and needs USE_TZ = True.",
            id="myometrics_analytics.E010",
        )
    ]


def check_person_fields(**kwargs: Any) -> list[checks.CheckMessage]:
    """``myometrics_analytics.W010``: a field that the host names must exist on its users."""
    named = {key: analytics_settings.values().get(key) for key in ("CLINIC_FIELD", "ROLE_FIELD")}
    return [
        checks.Warning(
            f"MYOMETRICS_ANALYTICS[{key!r}] is {name!r}, which the user model does not have.",
            hint="The filter of that name is refused.",
            id="myometrics_analytics.W010",
        )
        for key, name in named.items()
        if isinstance(name, str) and person_field(name) is None
    ]
