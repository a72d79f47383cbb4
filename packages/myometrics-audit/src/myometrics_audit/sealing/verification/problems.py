"""The problems that verification reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Problem"]


@dataclass(frozen=True)
class Problem:
    """A difference between the log and its evidence.

    ``kind`` is machine-readable; ``subject`` names the row (``"entry 123"``); ``message``
    describes the problem.

    Kinds: ``entry_edited``, ``entry_deleted``, ``entry_restored``, ``entry_forged``,
    ``entry_unreadable``, ``leaf_misplaced``, ``seal_missing``, ``seal_forged``,
    ``seal_reordered``, ``seal_broken``, ``erasure_missing``, ``erasure_forged``,
    ``erasure_broken``, ``anchor_broken``, ``counts_wrong``, ``key_lost``.
    """

    kind: str
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.message} [{self.kind}]"

    def as_json(self) -> dict[str, Any]:
        """Return the problem as ``audit_verify --json`` prints it."""
        return {"kind": self.kind, "subject": self.subject, "message": self.message}
