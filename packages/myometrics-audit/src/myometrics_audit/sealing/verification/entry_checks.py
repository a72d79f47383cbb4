"""Verification of entries against their leaves."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections

from ...log.models import AuditLog, Erasure, Leaf
from ...signing.keys import Key, find_key
from ...signing.signatures import entry_leaf, subject_of
from .problems import Problem

__all__ = [
    "EntryChecker",
    "StoredLeaf",
    "copied_entries",
    "forged_entries",
    "retained_subjects",
    "sealed_leaves",
    "signed_subject",
    "unsealed_leaves",
]

CHUNK = 2000
UNREADABLE = object()


@dataclass(frozen=True)
class StoredLeaf:
    """A row of the leaf table."""

    entry_id: int
    hash: bytes
    key_id: str
    seal_number: int | None
    erasure_id: Any


def sealed_leaves(using: str, last_number: int) -> Iterator[list[StoredLeaf]]:
    """Yield the leaves of all seals up to ``last_number``, in seal order, in chunks."""
    condition = "(seal_number, entry_id) > (%s, %s) AND seal_number <= %s"
    place = (-(2**63), -(2**63))
    order = "seal_number, entry_id"
    while chunk := _leaf_chunk(using, condition, (*place, last_number), order):
        yield chunk
        place = (chunk[-1].seal_number or 0, chunk[-1].entry_id)


def unsealed_leaves(using: str) -> Iterator[list[StoredLeaf]]:
    """Yield all leaves without a seal, in chunks."""
    place = -(2**63)
    while chunk := _leaf_chunk(using, "seal_number IS NULL AND entry_id > %s", (place,)):
        yield chunk
        place = chunk[-1].entry_id


def forged_entries(using: str) -> Iterator[Problem]:
    """Report entries without a leaf: they were not written through the audit log."""
    entries, leaves = AuditLog._meta.db_table, Leaf._meta.db_table
    sql = (
        f'SELECT a.id FROM "{entries}" a WHERE a.id > %s AND NOT EXISTS '
        f'(SELECT 1 FROM "{leaves}" l WHERE l.entry_id = a.id) ORDER BY a.id LIMIT {CHUNK}'
    )
    last = -(2**63)
    with connections[using].cursor() as cursor:
        while True:
            cursor.execute(sql, [last])
            ids = [entry_id for (entry_id,) in cursor.fetchall()]
            for entry_id in ids:
                yield Problem("entry_forged", f"entry {entry_id}", "has no leaf")
            if len(ids) < CHUNK:
                return
            last = ids[-1]


def copied_entries(using: str) -> Iterator[Problem]:
    """Report copies of entries, with nonce and leaf: a leaf doesn't cover the entry's id."""
    leaves = Leaf._meta.db_table
    sql = (
        f'SELECT l.entry_id, twin.first FROM "{leaves}" l JOIN '
        f'(SELECT hash, MIN(entry_id) AS first FROM "{leaves}" '
        "GROUP BY hash HAVING COUNT(*) > 1) twin ON twin.hash = l.hash "
        "WHERE l.entry_id <> twin.first ORDER BY l.entry_id"
    )
    with connections[using].cursor() as cursor:
        cursor.execute(sql)
        for entry_id, first in cursor:
            yield Problem("entry_forged", f"entry {entry_id}", f"is a copy of entry {first}")


class EntryChecker:
    """Check the entries of leaves, and count the entries checked and the keys missing."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.entries = 0
        self.lost_keys: Counter[str] = Counter()
        self._keys: dict[str, Key | None] = {}

    def check(self, leaves: Sequence[StoredLeaf]) -> Iterator[Problem]:
        """Yield the problems with the entries of these leaves."""
        rows = self._rows([leaf.entry_id for leaf in leaves])
        subjects = retained_subjects(rows.values(), self.using)
        for leaf in leaves:
            self.entries += leaf.erasure_id is None
            problem = self._problem(leaf, rows.get(leaf.entry_id), subjects)
            if problem is not None:
                yield from self._confirm(leaf)

    def key(self, key_id: str) -> Key | None:
        """Return the key with this id; count it as lost if it is not in the settings."""
        if key_id not in self._keys:
            self._keys[key_id] = find_key(key_id)
        if self._keys[key_id] is None:
            self.lost_keys[key_id] += 1
        return self._keys[key_id]

    def _confirm(self, suspected: StoredLeaf) -> Iterator[Problem]:
        # An erasure may have been committed between the two reads: read again, leaf first.
        fresh = _leaf_chunk(self.using, "entry_id = %s", (suspected.entry_id,))
        for leaf in fresh:
            if leaf.erasure_id and not suspected.erasure_id:
                return
            rows = self._rows([leaf.entry_id])
            subjects = retained_subjects(rows.values(), self.using)
            problem = self._problem(leaf, rows.get(leaf.entry_id), subjects, count_key=False)
            if problem is not None:
                yield problem

    def _problem(
        self, leaf: StoredLeaf, row: Any, subjects: Mapping[str, Any], count_key: bool = True
    ) -> Problem | None:
        subject = f"entry {leaf.entry_id}"
        if leaf.erasure_id is not None:
            if row is None:
                return None
            return Problem("entry_restored", subject, "exists, although it was erased")
        if row is None:
            return Problem("entry_deleted", subject, "is missing, without an erasure")
        if row is UNREADABLE:
            return Problem(
                "entry_unreadable", subject, "contains values that the log can't have written"
            )
        key = self.key(leaf.key_id) if count_key else self._keys.get(leaf.key_id)
        if key is None or _is_genuine(row, leaf, key, subjects):
            return None
        return Problem("entry_edited", subject, "differs from its leaf")

    def _rows(self, ids: Sequence[int]) -> dict[int, Any]:
        entries = AuditLog._base_manager.using(self.using)
        try:
            return entries.in_bulk(ids)
        except (ValueError, TypeError, AttributeError):
            if len(ids) == 1:
                return {ids[0]: UNREADABLE}
            return {key: row for entry_id in ids for key, row in self._rows([entry_id]).items()}


def retained_subjects(rows: Iterable[Any], using: str) -> dict[str, Any]:
    """Map pseudonym → key id → subject, from the erasures that assigned these pseudonyms."""
    names = {row.pseudonym for row in rows if row is not UNREADABLE and row.pseudonym}
    made = Erasure.objects.using(using).filter(reason="retain", pseudonym__in=names)
    return {str(e.pseudonym): _subjects(e.details) for e in made} if names else {}


def _subjects(details: Any) -> Mapping[str, Any]:
    """Map key id → subject. A tampered erasure may contain any JSON."""
    subjects = details.get("subjects") if isinstance(details, dict) else None
    return subjects if isinstance(subjects, dict) else {}


def signed_subject(
    row: AuditLog, leaf: Leaf | StoredLeaf, key: Key | None, subjects: Mapping[str, Any]
) -> str | None:
    """Return the subject that the leaf of ``row`` was signed over; ``None`` if it is unknown.

    ``key`` is the leaf's key, ``None`` if it is lost; ``subjects`` is the result of
    :func:`retained_subjects`.
    """
    if row.user_id is None:
        return subjects.get(row.pseudonym, {}).get(leaf.key_id) if row.pseudonym else None
    return None if key is None else subject_of(row.user_id, key)


def _is_genuine(row: AuditLog, leaf: StoredLeaf, key: Key, subjects: Mapping[str, Any]) -> bool:
    subject = signed_subject(row, leaf, key, subjects)
    if row.pseudonym and (row.user_id is not None or subject is None):
        return False
    try:
        return hmac.compare_digest(entry_leaf(row, subject, key), leaf.hash)
    except (ValueError, TypeError, AttributeError):
        return False


def _leaf_chunk(
    using: str, condition: str, values: Sequence[Any], order: str = "entry_id"
) -> list[StoredLeaf]:
    sql = (
        "SELECT entry_id, hash, key_id, seal_number, erasure_id "
        f'FROM "{Leaf._meta.db_table}" WHERE {condition} ORDER BY {order} LIMIT {CHUNK}'
    )
    with connections[using].cursor() as cursor:
        cursor.execute(sql, list(values))
        return [StoredLeaf(row[0], bytes(row[1]), *row[2:]) for row in cursor.fetchall()]
