"""Single entries, and the values that the admin's filters offer."""

from __future__ import annotations

from typing import Any

from ..log.entry_json import DETAIL_COLUMNS
from ..log.models import AuditLog, EntryCount
from ..sealing.counts import SEPARATOR

MAX_ID_DIGITS = 18
"""Every number of this length fits the column."""


def parse_entry_id(text: str) -> int | None:
    """Parse the id of an entry, which need not exist; return ``None`` if ``text`` is invalid."""
    is_id = text.isascii() and text.isdigit() and len(text) <= MAX_ID_DIGITS
    return int(text) if is_id else None


def entry_find(entry_id: str) -> dict[str, Any] | None:
    """Return the row of the entry with the id ``entry_id`` (text), ``None`` if there is none."""
    key = parse_entry_id(entry_id)
    if key is None:
        return None
    return AuditLog.objects.filter(pk=key).values(*DETAIL_COLUMNS).first()


def counted_actions() -> list[str]:
    """Return at most 100 actions of sealed entries, ordered by name."""
    return _counted("a:")


def counted_resource_types() -> list[str]:
    """Return at most 100 resource types of sealed entries, ordered by name."""
    return _counted("t:")


def _counted(prefix: str) -> list[str]:
    scopes = EntryCount.objects.filter(
        scope__startswith=prefix, period=EntryCount.Period.ALL, count__gt=0
    ).exclude(scope__contains=SEPARATOR)
    names = scopes.order_by("scope").values_list("scope", flat=True)[:100]
    return [scope.removeprefix(prefix) for scope in names]
