"""Settings in Django's error pages and error mails."""

from __future__ import annotations

from typing import Any

from django.views.debug import SafeExceptionReporterFilter

from ..logs import redacted


class ExceptionReporterFilter(SafeExceptionReporterFilter):
    """Also hides the secrets in URLs: Django checks only the names of settings and variables."""

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        """Return ``value`` without its secrets."""
        return redacted(super().cleanse_setting(key, value))
