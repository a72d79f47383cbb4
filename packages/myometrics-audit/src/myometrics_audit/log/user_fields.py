"""Fields for users in rows beside the log."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models


def user_field(label: Any, **options: Any) -> Any:
    """Return a field for a user; a deleted user is removed from the row."""
    return models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=label,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        **options,
    )
