"""Verification of entries against their leaves."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections

from myometrics_core.times import whole_milliseconds

from ...conf import audit_settings
from ...log.closed_ranges import closed_ranges, ranges_with_other_times, without_ranges
from ...log.models import AuditLog, Erasure, Leaf, Seal
from ...signing.keys import Key, find_key
from ...signing.signatures import (
    canonical_entry_v2,
    entry_leaf,
    entry_leaf_v2,
    is_committed,
    is_tagged,
    subject_of,
)
from ..erased_ranges import ErasedRanges
from .problems import Problem

CHUNK = 2000
LOWEST_ID = -(2**63) + 1
"""The scans below begin at it: the smallest number of the database is the start of their places."""
CLOCK_TOLERANCE = timedelta(days=1)
"""Largest difference between the clocks of the servers."""
UNREADABLE = object()


@dataclass(frozen=True)
class StoredLeaf:
    """A row of the leaf table."""

    entry_id: int
    hash: bytes
    key_id: str
    seal_number: int | None
    erasure_id: Any
    version: int | None


def sealed_leaves(using: str, after: int, until: int) -> Iterator[list[StoredLeaf]]:
    """Yield the leaves of the seals after ``after`` (0: of all) up to ``until``, in chunks.

    They are in the order of the seals.
    """
    condition = "(seal_number, entry_id) > (%s, %s) AND seal_number <= %s"
    place = (after, 2**63 - 1) if after else (-(2**63), -(2**63))
    order = "seal_number, entry_id"
    while chunk := _leaf_chunk(using, condition, (*place, until), order):
        yield chunk
        place = (chunk[-1].seal_number or 0, chunk[-1].entry_id)


def unsealed_leaves(using: str) -> Iterator[list[StoredLeaf]]:
    """Yield all leaves without a seal, in chunks."""
    place = -(2**63)
    while chunk := _leaf_chunk(using, "seal_number IS NULL AND entry_id > %s", (place,)):
        yield chunk
        place = chunk[-1].entry_id


def old_seals_of_new_ids(using: str, after: int) -> list[int]:
    """Return the numbers of the seals up to ``after`` to which a forged new leaf could refer.

    That is the seal of the newest leaf up to ``after``, and those of leaves with a higher id. There
    are such leaves if transactions commit late: at most those written while the transaction of that
    newest leaf was open. The seals that can't exist are returned as 1, like the first one.
    """
    newest = _newest_leaf(using, after)
    if newest is None:
        return []
    leaves = Leaf.objects.using(using).filter(entry_id__gt=newest.entry_id, seal_number__lte=after)
    numbers = leaves.order_by().values_list("seal_number", flat=True).distinct()
    return sorted({max(number or 0, 1) for number in (newest.seal_number, *numbers)})


def _newest_leaf(using: str, after: int) -> Leaf | None:
    """Return the leaf with the highest id in the newest seal up to ``after`` that has leaves."""
    old = Leaf.objects.using(using).filter(seal_number__lte=after)
    return old.order_by("-seal_number", "-entry_id").first()


def impossible_entries(using: str) -> Iterator[Problem]:
    """Report entries and leaves before the place where the other checks begin to read."""
    entries = AuditLog._base_manager.using(using).filter(pk__lt=LOWEST_ID).order_by()
    leaves = Leaf.objects.using(using).order_by()
    found = {
        *entries.values_list("pk", flat=True),
        *leaves.filter(entry_id__lt=LOWEST_ID).values_list("pk", flat=True),
        *leaves.filter(seal_number__lt=LOWEST_ID).values_list("pk", flat=True),
    }
    for entry_id in sorted(found, key=str):
        message = "has an id or a seal that the log never assigns"
        yield Problem("entry_forged", f"entry {entry_id}", message)


def forged_entries(using: str, after: int = 0) -> Iterator[Problem]:
    """Report entries without a leaf: they were not written through the audit log.

    With ``after``, only those with an id above the newest entry sealed up to that seal. In a
    partitioned log also those below it, as far down as ``PARTITION_SIZE``, that are in partitions
    which are not closed.
    """
    entries, leaves = AuditLog._meta.db_table, Leaf._meta.db_table
    chosen = f'a."id" > %s{_new_entries(using, after)}'
    sql = (
        f'SELECT a."id" FROM "{entries}" a WHERE {chosen} AND NOT EXISTS '
        # Without its own limit, the join would read the leaves from the first one on.
        f'(SELECT 1 FROM "{leaves}" l WHERE l.entry_id = a."id" AND l.entry_id > %s) '
        f'ORDER BY a."id" LIMIT {CHUNK}'
    )
    with connections[using].cursor() as cursor:
        cursor.execute(f'SELECT MIN(a."id") FROM "{entries}" a WHERE {chosen}', [-(2**63)])
        (first,) = cursor.fetchone()
        last = None if first is None else first - 1
        while last is not None:
            cursor.execute(sql, [last, last])
            ids = [entry_id for (entry_id,) in cursor.fetchall()]
            for entry_id in ids:
                yield Problem("entry_forged", f"entry {entry_id}", "has no leaf")
            last = ids[-1] if len(ids) == CHUNK else None


def _new_entries(using: str, after: int) -> str:
    """Return SQL for the entries that can be new since the seal ``after``."""
    newest = _newest_leaf(using, after) if after else None
    if newest is None:
        return ""
    above = f' AND a."id" > {newest.entry_id:d}'
    closed = closed_ranges(using)
    if not closed:
        return above
    lowest = newest.entry_id - audit_settings.PARTITION_SIZE
    return f' AND a."id" > {lowest:d} AND ((TRUE{above}) OR (TRUE{without_ranges(closed)}))'


def hidden_entries(using: str) -> Iterator[Problem]:
    """Report partitions with entries outside of their stored times."""
    for closed in ranges_with_other_times(using):
        yield Problem(
            "times_wrong",
            f"partition of the entries {closed.first_id} to {closed.end_id - 1}",
            "has entries outside of its stored times, so lists may leave them out",
        )


def copied_entries(using: str, after: int = 0) -> Iterator[Problem]:
    """Report copies of entries, with nonce and leaf: a leaf doesn't cover the entry's id.

    With ``after``, only copies among the leaves that were sealed after that seal, or not yet.
    """
    leaves = Leaf._meta.db_table
    chosen = f"(seal_number > {after:d} OR seal_number IS NULL)" if after else "TRUE"
    sql = (
        f'SELECT l.entry_id, twin.first FROM "{leaves}" l JOIN '
        f'(SELECT hash, MIN(entry_id) AS first FROM "{leaves}" WHERE {chosen} '
        "GROUP BY hash HAVING COUNT(*) > 1) twin ON twin.hash = l.hash "
        f"WHERE {chosen} AND l.entry_id <> twin.first ORDER BY l.entry_id"
    )
    with connections[using].cursor() as cursor:
        cursor.execute(sql)
        for entry_id, first in cursor:
            yield Problem("entry_forged", f"entry {entry_id}", f"is a copy of entry {first}")


def seal_before(moment: datetime, using: str) -> int:
    """Return the number of the newest seal that covers no entry of ``moment`` or later.

    An entry is sealed after its time, as far as clocks agree. 0 if there is no such seal.
    """
    try:
        before = moment - CLOCK_TOLERANCE
    except OverflowError:  # a tampered time
        return 0
    older = Seal.objects.using(using).filter(sealed_at__lt=before)
    return older.order_by("-number").values_list("number", flat=True).first() or 0


class EntryChecker:
    """Check the entries of leaves, and count the entries checked and the keys missing.

    ``oldest`` is the time of the oldest entry that was checked.
    """

    def __init__(self, using: str) -> None:
        self.using = using
        self.entries = 0
        self.oldest: datetime | None = None
        self.lost_keys: Counter[str] = Counter()
        self._keys: dict[str, Key | None] = {}
        self._erased = ErasedRanges.load(using)

    def check(self, leaves: Sequence[StoredLeaf]) -> Iterator[Problem]:
        """Yield the problems with the entries of these leaves."""
        rows = self._rows([leaf.entry_id for leaf in leaves])
        times = [row.timestamp for row in rows.values() if row is not UNREADABLE]
        self.oldest = min([self.oldest, *times] if self.oldest else times, default=None)
        subjects = retained_subjects(rows.values(), self.using)
        if any(leaf.entry_id not in rows and not self._is_erased(leaf) for leaf in leaves):
            # Read them again: a range may have been erased since.
            self._erased = ErasedRanges.load(self.using)
        for leaf in leaves:
            self.entries += not self._is_erased(leaf)
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
        if self._is_erased(leaf):
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
        if _is_genuine(row, leaf, key, subjects):
            return None
        return Problem("entry_edited", subject, "differs from its leaf")

    def _is_erased(self, leaf: StoredLeaf) -> bool:
        return leaf.erasure_id is not None or self._erased.find(leaf.entry_id) is not None

    def _rows(self, ids: Sequence[int]) -> dict[int, Any]:
        entries = AuditLog._base_manager.using(self.using)
        try:
            return entries.in_bulk(ids)
        except (ValueError, TypeError, AttributeError):
            if len(ids) == 1:
                return {ids[0]: UNREADABLE}
            return {key: row for entry_id in ids for key, row in self._rows([entry_id]).items()}


def retained_subjects(rows: Iterable[Any], using: str) -> dict[str, Any]:
    """Map pseudonym → (key id, version) → subject, from the erasures that assigned these."""
    names = {row.pseudonym for row in rows if row is not UNREADABLE and row.pseudonym}
    made = Erasure.objects.using(using).filter(reason="retain", pseudonym__in=names)
    return {str(e.pseudonym): retained_by(e.details) for e in made} if names else {}


def retained_by(details: Any) -> dict[tuple[str, int], Any]:
    """Map (key id, version) → subject, from the details of an erasure.

    A tampered erasure may contain any JSON.
    """
    found: dict[tuple[str, int], Any] = {}
    for version, name in ((1, "subjects"), (2, "actors")):
        subjects = details.get(name) if isinstance(details, dict) else None
        if isinstance(subjects, dict):
            found |= {(key_id, version): subject for key_id, subject in subjects.items()}
    return found


def signed_subject(
    row: AuditLog, leaf: Leaf | StoredLeaf, key: Key | None, subjects: Mapping[str, Any]
) -> str | None:
    """Return the subject that the leaf of ``row`` was signed over; ``None`` if it is unknown.

    Version 2 stores it in the row: the commitment to the user. ``key`` is the leaf's key, ``None``
    if it is lost; ``subjects`` is the result of :func:`retained_subjects`.
    """
    if leaf.version == 2:
        return None if row.actor is None else bytes(row.actor).hex()
    if row.user_id is None:
        return subjects.get(row.pseudonym, {}).get((leaf.key_id, 1)) if row.pseudonym else None
    return None if key is None else subject_of(row.user_id, key)


def _is_genuine(
    row: AuditLog, leaf: StoredLeaf, key: Key | None, subjects: Mapping[str, Any]
) -> bool:
    """Return whether a row matches its leaf, as far as that can be checked without a lost key."""
    try:
        if leaf.version == 2:
            return _is_genuine_v2(row, leaf, key, subjects)
        return leaf.version is None and _is_genuine_v1(row, leaf, key, subjects)
    except (ValueError, TypeError, AttributeError):
        return False


def _is_genuine_v1(
    row: AuditLog, leaf: StoredLeaf, key: Key | None, subjects: Mapping[str, Any]
) -> bool:
    added = (row.origin, row.data_subject, row.purpose, row.legal_basis)
    if any((*added, row.actor, row.actor_nonce)):
        return False  # not covered
    if key is None:
        return True
    subject = signed_subject(row, leaf, key, subjects)
    if row.pseudonym and (row.user_id is not None or subject is None):
        return False
    return hmac.compare_digest(entry_leaf(row, subject, key), leaf.hash)


def _is_genuine_v2(
    row: AuditLog, leaf: StoredLeaf, key: Key | None, subjects: Mapping[str, Any]
) -> bool:
    if row.timestamp != whole_milliseconds(row.timestamp):
        return False  # microseconds are not covered
    actor = signed_subject(row, leaf, key, subjects)
    signed = canonical_entry_v2(row, actor)
    return (
        _has_genuine_actor(row, leaf, actor, subjects)
        and hmac.compare_digest(entry_leaf_v2(row.nonce, signed), leaf.hash)
        and (key is None or is_tagged(row.nonce, signed, key))
    )


def _has_genuine_actor(
    row: AuditLog, leaf: StoredLeaf, actor: str | None, subjects: Mapping[str, Any]
) -> bool:
    """Return whether user, pseudonym and the commitment to the user are consistent."""
    if row.user_id is not None:
        return not row.pseudonym and is_committed(row.user_id, row.actor_nonce or b"", actor)
    if row.actor_nonce is not None:
        return False
    if not row.pseudonym:
        return actor is None
    return actor is not None and actor == subjects.get(row.pseudonym, {}).get((leaf.key_id, 2))


def _leaf_chunk(
    using: str, condition: str, values: Sequence[Any], order: str = "entry_id"
) -> list[StoredLeaf]:
    sql = (
        "SELECT entry_id, hash, key_id, seal_number, erasure_id, version "
        f'FROM "{Leaf._meta.db_table}" WHERE {condition} ORDER BY {order} LIMIT {CHUNK}'
    )
    with connections[using].cursor() as cursor:
        cursor.execute(sql, list(values))
        return [StoredLeaf(row[0], bytes(row[1]), *row[2:]) for row in cursor.fetchall()]
