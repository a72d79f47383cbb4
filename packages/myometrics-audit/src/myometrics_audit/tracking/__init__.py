"""Recording changes of a site's models."""

from __future__ import annotations

from .admin_mixin import RecordedAdminMixin
from .changes import (
    recorded_bulk_create,
    recorded_changes,
    recorded_delete,
    recorded_save,
    recorded_update,
)
from .declarations import recorded
from .tracker import ChangeTracker
from .view_mixin import RecordedViewMixin

__all__ = [
    "ChangeTracker",
    "RecordedAdminMixin",
    "RecordedViewMixin",
    "recorded",
    "recorded_bulk_create",
    "recorded_changes",
    "recorded_delete",
    "recorded_save",
    "recorded_update",
]
