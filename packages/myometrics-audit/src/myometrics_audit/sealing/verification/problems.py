"""The problems that verification reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

COMPARE = "Compare it with a backup or an export, and find out who had access to the database."
RESTORE = "Restore it from a backup, and find out who had access to the database."
ADVICE = {
    "entry_edited": COMPARE,
    "entry_deleted": RESTORE,
    "entry_restored": "Delete it again: it was erased lawfully; find out who put it back.",
    "entry_forged": "It was not written by this site: find out who inserted it.",
    "entry_unreadable": COMPARE,
    "leaf_misplaced": COMPARE,
    "seal_missing": RESTORE,
    "seal_forged": COMPARE,
    "seal_reordered": COMPARE,
    "seal_broken": COMPARE,
    "erasure_missing": RESTORE,
    "erasure_forged": COMPARE,
    "erasure_broken": COMPARE,
    "anchor_broken": "Restore the newest backup, or find out who removed or replaced the seals.",
    "checkpoint_broken": "Restore the newest backup, or find out who removed or replaced the "
    "seals; the witnesses have the checkpoint too.",
    "checkpoint_forged": "Compare it with the published one; add a replaced key to "
    "CHECKPOINT_OLD_KEYS.",
    "checkpoint_outdated": "Find out who replaced it: the next publication puts it right.",
    "counts_wrong": "Find out who changed the table, then run 'manage.py audit_seal --recount'.",
    "times_wrong": "Find out who changed the table of partitions, then run "
    "'manage.py audit_partition'.",
    "key_lost": "Add the key to KEYS, or its secret to SECRET_KEY_FALLBACKS, and verify again.",
}
"""Kind → what to do."""


def one_line(text: str) -> str:
    """Return ``text`` without control characters: tampered values are in it."""
    return "".join(char if char.isprintable() else "?" for char in text)


@dataclass(frozen=True)
class Problem:
    """A difference between the log and its evidence.

    ``kind`` is machine-readable; ``subject`` names the row (``"entry 123"``); ``message``
    describes the problem.

    Kinds: ``entry_edited``, ``entry_deleted``, ``entry_restored``, ``entry_forged``,
    ``entry_unreadable``, ``leaf_misplaced``, ``seal_missing``, ``seal_forged``,
    ``seal_reordered``, ``seal_broken``, ``erasure_missing``, ``erasure_forged``,
    ``erasure_broken``, ``anchor_broken``, ``checkpoint_broken``, ``checkpoint_forged``,
    ``checkpoint_outdated``, ``counts_wrong``, ``times_wrong``, ``key_lost``.
    """

    kind: str
    subject: str
    message: str

    def __str__(self) -> str:
        return one_line(f"{self.subject}: {self.message} [{self.kind}]. {self.advice}")

    @property
    def advice(self) -> str:
        """Return what to do about problems of this kind."""
        return ADVICE[self.kind]

    def as_json(self) -> dict[str, Any]:
        """Return the problem as ``audit_verify --json`` prints it."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "message": self.message,
            "advice": self.advice,
        }
