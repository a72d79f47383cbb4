"""Derive the interaction with a record, and its outcome, from the name of an action."""

from __future__ import annotations

import re
from functools import lru_cache

INTERACTIONS = {
    "create": ("C", {"created", "added", "registered", "uploaded"}),
    "read": ("R", {"read", "viewed", "seen", "printed", "downloaded", "exported", "opened"}),
    "update": (
        "U",
        {"updated", "changed", "edited", "processed", "completed", "reset", "restored"},
    ),
    "delete": ("D", {"deleted", "removed", "erased", "purged"}),
    "search": ("E", {"listed", "searched", "queried"}),
}
"""Interaction → its code in DICOM and FHIR, and the verbs that name it."""

ADMINISTRATION = frozenset({"emergency_access_ended", "legal_hold_placed", "legal_hold_released"})
"""Actions about a data subject that open none of their data; their apps may not be installed."""

FAILED = {"fail", "failed", "fails", "failure"}
REFUSED = {"denied", "forbidden", "refused", "throttled"}
_SEPARATORS = re.compile(r"[_.\s-]+")


def words_of(name: str) -> frozenset[str]:
    """Return the words of an action or a type in lower case."""
    return frozenset(_SEPARATORS.split(name.lower()))


@lru_cache(maxsize=1024)
def interaction_of(action: str) -> str | None:
    """Return the interaction that ``action`` names, a key of ``INTERACTIONS``."""
    words = words_of(action)
    found = (name for name, (_, verbs) in INTERACTIONS.items() if words & {name, *verbs})
    return next(found, None)


@lru_cache(maxsize=1024)
def outcome_of(action: str) -> str:
    """Return DICOM's code of the outcome: ``"0"`` success, ``"4"`` failed, ``"8"`` refused."""
    words = words_of(action)
    if words & FAILED:
        return "4"
    return "8" if words & REFUSED else "0"
