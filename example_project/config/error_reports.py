"""What Django's error pages and error mails say of the settings."""

from __future__ import annotations

from typing import Any

from django.views.debug import SafeExceptionReporterFilter

from .logs import redacted


class ExceptionReporterFilter(SafeExceptionReporterFilter):
    """Hides the secrets in URLs, too: Django looks at the names of settings and variables alone."""

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        """``value`` without its secrets."""
        return redacted(super().cleanse_setting(key, value))
