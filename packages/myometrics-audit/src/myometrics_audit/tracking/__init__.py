"""Recording changes of a site's models."""

from __future__ import annotations

from .changes import (
    recorded,
    recorded_bulk_create,
    recorded_delete,
    recorded_save,
    recorded_update,
)

__all__ = [
    "recorded",
    "recorded_bulk_create",
    "recorded_delete",
    "recorded_save",
    "recorded_update",
]
