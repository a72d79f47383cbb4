"""Conversion of audit entries to events, for subscribers and replays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from myometrics_core.db import read_in_batches
from myometrics_core.events import Event, Origin

from .models import AuditLog

SOURCE = "audit"
"""Prefix of the ids of this package's events."""


def event_of(entry: AuditLog) -> Event:
    """Return the event that an entry recorded, or the event that it publishes."""
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


def events_replay() -> Iterator[Event]:
    """Yield every entry as an event, oldest first, in constant memory."""
    for entry in read_in_batches(AuditLog.objects.order_by("id")):
        yield event_of(entry)
