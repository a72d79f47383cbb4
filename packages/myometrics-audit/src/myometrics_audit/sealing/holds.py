"""Legal holds: an app registers which entries must be kept, and none is the default."""

from __future__ import annotations

from typing import Any, Protocol

from django.db.models import Q

_registered: list[Holds] = []


class Holds(Protocol):
    """Decides which entries are held. Both methods are called under the evidence lock."""

    def condition(self, using: str) -> Q | None:
        """Return the condition of held entries; ``None`` if no entry is held."""
        ...

    def user_retained(self, user_id: Any, pseudonym: str, using: str) -> None:
        """Note that ``pseudonym`` has replaced a deleted user in retained entries."""
        ...


def register_holds(holds: Holds) -> None:
    """Keep the entries that ``holds`` selects; replaces earlier ones."""
    _registered[:] = [holds]


def held_condition(using: str) -> Q | None:
    """Return the condition of entries that must be kept; ``None`` if there are none."""
    return _registered[0].condition(using) if _registered else None


def note_retained(user_id: Any, pseudonym: str, using: str) -> None:
    """Pass on that a pseudonym has replaced a user."""
    for holds in _registered:
        holds.user_retained(user_id, pseudonym, using)
