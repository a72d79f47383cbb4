"""The event bus: publish, subscribe, replay."""

from .bus import (
    Event,
    Origin,
    is_awaited,
    is_reserved_action,
    publish,
    publish_many,
    register_receiver,
    register_reserved_actions,
    register_source,
    replay_events,
)
from .reads import publish_read, register_recorded_reads

__all__ = [
    "Event",
    "Origin",
    "is_awaited",
    "is_reserved_action",
    "publish",
    "publish_many",
    "publish_read",
    "register_receiver",
    "register_recorded_reads",
    "register_reserved_actions",
    "register_source",
    "replay_events",
]
