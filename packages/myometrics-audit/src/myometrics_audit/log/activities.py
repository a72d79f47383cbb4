"""Look-up of entries by the activity id under which they were recorded.

A partitioned table has no index on the activity ids of all its entries: the app that makes the
partitions keeps them in a table of its own, and registers the look-up there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .models import AuditLog
from .querysets import AuditLogQuerySet

Lookup = Callable[[Sequence[str], str], Mapping[str, int] | None]
"""Maps activity ids to entry ids on a database; ``None`` if its log is not partitioned."""

_lookups: list[Lookup] = []


def register_activity_lookup(lookup: Lookup) -> None:
    """Use ``lookup`` before the index of the table of entries."""
    if lookup not in _lookups:
        _lookups.append(lookup)


def entries_with_activities(
    activity_ids: Sequence[str], using: str | None = None
) -> AuditLogQuerySet:
    """Return the entries with these activity ids, on ``using`` or where entries are read."""
    entries = AuditLog.objects.all() if using is None else AuditLog.objects.using(using)
    for lookup in _lookups:
        found = lookup(activity_ids, entries.db)
        if found is not None:
            return entries.filter(pk__in=list(found.values()))
    return entries.filter(activity_id__in=activity_ids)
