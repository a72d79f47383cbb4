"""Conversion of audit entries to activities, for receivers and replays."""

from __future__ import annotations

from typing import cast

from myometrics_core.events import Event, Origin

from .models import AuditLog

__all__ = ["SOURCE", "activity_of"]

SOURCE = "audit"
"""Prefix of the ids of this package's activities."""


def activity_of(entry: AuditLog) -> Event:
    """Return the activity that an entry recorded, or the activity that it publishes."""
    return Event(
        id=entry.activity_id or f"{SOURCE}:{entry.pk}",
        actor_id=entry.user_id,
        action=entry.action,
        resource_type=entry.resource_type,
        resource_id=entry.resource_id,
        occurred_at=entry.timestamp,
        details=entry.details,
        client_address=entry.ip_address,
        user_agent=entry.user_agent,
        origin=cast("Origin | None", entry.origin),
    )
