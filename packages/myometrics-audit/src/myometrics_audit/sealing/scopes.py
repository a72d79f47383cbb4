"""The scopes of stored counts, and the increments of an entry.

A scope is a set of counted entries: all, or those of a user, an action, a resource type, or an
action on a resource type. Each scope is counted for all time, by UTC month and by UTC day.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from typing import Any

from myometrics_core.times import utc_day

from ..log.models import EntryCount

__all__ = [
    "ALL_TIME",
    "COUNTED",
    "SEPARATOR",
    "CountKey",
    "CountedEntry",
    "count_changes",
    "entry_scope",
    "user_scope",
]

ALL_TIME = date(1, 1, 1)
COUNTED = ("user_id", "action", "resource_type", "timestamp")
CountKey = tuple[str, str, date]
CountedEntry = tuple[Any, str, str, datetime]
SEPARATOR = "\x1f"


def entry_scope(
    *, user_id: Any = None, action: str | None = None, resource_type: str | None = None
) -> str | None:
    """Return the scope with exactly these conditions; ``None`` if it is not counted."""
    if user_id is not None:
        return None if action is not None or resource_type is not None else user_scope(user_id)
    parts = [f"a:{action}"] if action is not None else []
    parts += [f"t:{resource_type}"] if resource_type is not None else []
    return SEPARATOR.join(parts)


def user_scope(user_id: Any) -> str:
    """Return the scope of a user's entries."""
    text = str(user_id)
    if len(text) > 200:
        text = hashlib.sha256(text.encode()).hexdigest()
    return f"u:{text}"


def count_changes(entries: Iterable[CountedEntry], sign: int = 1) -> Counter[CountKey]:
    """Return the increments of the counts by these entries (columns as in :data:`COUNTED`)."""
    cells: Counter[tuple[Any, str, str, date]] = Counter()
    for user_id, action, resource_type, timestamp in entries:
        cells[user_id, action, resource_type, utc_day(timestamp)] += sign
    changes: Counter[CountKey] = Counter()
    for (user_id, action, resource_type, day), count in cells.items():
        for scope in _scopes(user_id, action, resource_type):
            for period, start in _periods(day):
                changes[scope, period, start] += count
    return changes


def _scopes(user_id: Any, action: str, resource_type: str) -> Iterator[str]:
    yield ""
    yield f"a:{action}"
    yield f"t:{resource_type}"
    yield f"a:{action}{SEPARATOR}t:{resource_type}"
    if user_id is not None:
        yield user_scope(user_id)


def _periods(day: date) -> Iterator[tuple[str, date]]:
    yield EntryCount.Period.ALL, ALL_TIME
    yield EntryCount.Period.MONTH, day.replace(day=1)
    yield EntryCount.Period.DAY, day
