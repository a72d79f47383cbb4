"""The log: entries, their models and guards, and the services that write them."""

from __future__ import annotations

from .querysets import ImmutableEntry
from .services import ActorDeleted, NewEntry, entries_record, entry_record, events_record

__all__ = [
    "ActorDeleted",
    "ImmutableEntry",
    "NewEntry",
    "entries_record",
    "entry_record",
    "events_record",
]
