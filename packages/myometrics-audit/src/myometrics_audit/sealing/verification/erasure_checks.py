"""Verification of erasures: their signatures and the leaves that they cover."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import Q

from myometrics_core.db import read_in_batches

from ...log.models import Erasure, Leaf
from ...signing.keys import FindKey
from ...signing.signatures import erasure_digest, erasure_leaf
from ..erased_ranges import ErasedRanges, erased_range
from ..erasures import leaf_pairs
from .problems import Problem


def erasure_problems(using: str, find_key: FindKey, after: int = 0) -> Iterator[Problem]:
    """Yield the problems of all erasures.

    With ``after`` only of those sealed after that seal, and of older ones that newer leaves refer
    to or are a part of. The signatures of older ones that newer entries could refer to in another
    way are checked, too.
    """
    yield from _misspelled(using)  # before they are read, which may be impossible
    erasures, ranges = Erasure.objects.using(using), ErasedRanges.load(using)
    chosen = erasures
    if after:
        named = _old_of_new_leaves(ranges, using, after)
        chosen = erasures.filter(_is_new(after) | Q(pk__in=named))
        # A forged one could cover entries that are newer than its seal, or assign a pseudonym.
        of_ranges = Q(pk__in=[one.erasure_id for one in ranges.ranges])
        old = erasures.filter(of_ranges | Q(reason=Erasure.Reason.RETAIN), seal_number__lte=after)
        for erasure in read_in_batches(old.exclude(pk__in=named).order_by("id"), size=500):
            yield from _signature_problems(erasure, find_key)
    for erasure in read_in_batches(chosen.order_by("id"), size=500):
        yield from _signature_problems(erasure, find_key)
        yield from _digest_problems(erasure, using)
    for later, earlier in ranges.overlapping():
        message = f"covers the same entries as erasure {earlier.erasure_id}"
        yield Problem("erasure_broken", f"erasure {later.erasure_id}", message)
    yield from _missing(using)


def _signature_problems(erasure: Erasure, find_key: FindKey) -> Iterator[Problem]:
    key = find_key(erasure.key_id)
    if key and not hmac.compare_digest(erasure_leaf(erasure, key), bytes(erasure.hash)):
        yield Problem("erasure_forged", f"erasure {erasure.pk}", "has a wrong signature")


def _is_new(after: int) -> Q:
    return Q(seal_number__gt=after) | Q(seal_number=None)


def _old_of_new_leaves(ranges: ErasedRanges, using: str, after: int) -> set[UUID]:
    """Return the ids of the erasures up to a seal that newer leaves refer to or are a part of."""
    leaves = Leaf.objects.using(using).filter(_is_new(after))
    named = leaves.exclude(erasure_id=None).values("erasure_id")
    old = Erasure.objects.using(using).filter(seal_number__lte=after, pk__in=named)
    end_id = max((one.end_id for one in ranges.ranges), default=0)
    others = leaves.filter(erasure_id=None, entry_id__lt=end_id).values_list("entry_id", flat=True)
    found = map(ranges.find, others.iterator())
    of_ranges = (one.erasure_id for one in found if one and one.erasure_id)
    return {*old.values_list("pk", flat=True), *of_ranges}


def _digest_problems(erasure: Erasure, using: str) -> Iterator[Problem]:
    erased, covered = erased_range(erasure), Leaf.objects.using(using).filter(erasure_id=erasure.pk)
    if erased is not None or erasure.reason == Erasure.Reason.RETAIN:
        if named := covered.count():
            message = f"did not erase the entries of {named} leaves that refer to it"
            yield Problem("erasure_broken", f"erasure {erasure.pk}", message)
        if erased is None:
            return
        covered = erased.leaves(using)
    count, digest = erasure_digest(leaf_pairs(covered))
    if (count, digest) != (erasure.entries, bytes(erasure.digest)):
        message = f"covers {erasure.entries} leaves, but there are {count}, or other ones"
        yield Problem("erasure_broken", f"erasure {erasure.pk}", message)


def _missing(using: str) -> Iterator[Problem]:
    erasures = Erasure._meta.db_table
    is_missing = f'NOT EXISTS (SELECT 1 FROM "{erasures}" e WHERE e.id = l.erasure_id)'
    for erasure_id, count in _named_erasures(using, is_missing):
        message = f"is missing, but {count} leaves refer to it"
        yield Problem("erasure_missing", f"erasure {_spelled(erasure_id)}", message)


def _misspelled(using: str) -> Iterator[Problem]:
    """Report ids in the leaves that could refer to a second erasure with the id of a genuine one.

    PostgreSQL stores no text, but the id itself.
    """
    if connections[using].vendor != "sqlite":
        return
    is_misspelled = (
        "(typeof(l.erasure_id) <> 'text' OR length(CAST(l.erasure_id AS BLOB)) <> 32 "
        "OR l.erasure_id GLOB '*[^0-9a-f]*')"
    )
    for erasure_id, count in _named_erasures(using, is_misspelled):
        message = f"is named by {count} leaves as {erasure_id!r}, which the log never spells so"
        yield Problem("erasure_forged", f"erasure {_spelled(erasure_id)}", message)


def _named_erasures(using: str, condition: str) -> list[tuple[Any, int]]:
    """Return the erasures that leaves ``l`` name under a condition, with the number of leaves."""
    with connections[using].cursor() as cursor:
        cursor.execute(
            f'SELECT l.erasure_id, COUNT(*) FROM "{Leaf._meta.db_table}" l '
            f"WHERE l.erasure_id IS NOT NULL AND {condition} GROUP BY l.erasure_id"
        )
        return list(cursor.fetchall())


def _spelled(erasure_id: Any) -> str:
    # SQLite returns hex digits without hyphens; a tampered value may be any text.
    text = str(erasure_id)
    try:
        return str(UUID(text))
    except ValueError:
        return text
