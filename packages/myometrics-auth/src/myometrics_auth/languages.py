"""The default rule for the language of a mail."""

from __future__ import annotations

from typing import Any

from django.conf import settings

__all__ = ["site_language"]


def site_language(user: Any) -> str:
    """The site's own language (``LANGUAGE_CODE``), for everyone."""
    return settings.LANGUAGE_CODE
