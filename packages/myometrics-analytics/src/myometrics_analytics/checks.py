"""System checks for the settings of analytics."""

from __future__ import annotations

from typing import Any

from django.core import checks

from .conf import analytics_settings
from .filters import user_field


def check_user_fields(**kwargs: Any) -> list[checks.CheckMessage]:
    """``myometrics_analytics.W010``: the configured fields must exist on the user model."""
    names = {key: analytics_settings.values().get(key) for key in ("CLINIC_FIELD", "ROLE_FIELD")}
    return [
        checks.Warning(
            f"MYOMETRICS_ANALYTICS[{key!r}] is {name!r}, which the user model does not have.",
            hint="The filter of that name is refused.",
            id="myometrics_analytics.W010",
        )
        for key, name in names.items()
        if isinstance(name, str) and user_field(name) is None
    ]
