"""Default rules for the language and the time zone of a mail."""

from __future__ import annotations

from typing import Any

from django.conf import settings

__all__ = ["site_language", "site_time_zone"]


def site_language(user: Any) -> str:
    """The site's own language (``LANGUAGE_CODE``), for everyone."""
    return settings.LANGUAGE_CODE


def site_time_zone(user: Any) -> str:
    """The site's own time zone (``TIME_ZONE``), for everyone."""
    return settings.TIME_ZONE
