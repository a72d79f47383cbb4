"""A verification run, from the first seal to the last unsealed leaf."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from django.db import connections, router
from django.utils import timezone

from ...log.models import EntryCount, Leaf, Verification
from ...signing.signatures import tree_entry
from .entry_checks import (
    EntryChecker,
    StoredLeaf,
    copied_entries,
    forged_entries,
    sealed_leaves,
    unsealed_leaves,
)
from .erasure_checks import erasure_problems
from .problems import Problem
from .seal_checks import SealChecker, anchor_problems, unknown_seal_problems

__all__ = ["LogVerifier", "verification_record"]


class LogVerifier:
    """Verify the log: iterate :meth:`problems`, then read the counters.

    ``anchors`` are published seals (``number``, ``signature``) that must still exist.
    ``progress`` is called with the number of leaves checked so far.
    """

    def __init__(
        self,
        *,
        using: str | None = None,
        anchors: Iterable[dict[str, Any]] = (),
        progress: Callable[[int], object] = lambda checked: None,
    ) -> None:
        self.using = using or router.db_for_read(Leaf)
        self.started_at: datetime = timezone.now()
        self.leaves = 0
        self.found = 0
        self.entries = EntryChecker(self.using)
        self.seals = SealChecker(self.using, self.entries.key)
        self._anchors = anchors
        self._progress = progress

    def problems(self) -> Iterator[Problem]:
        """Yield each problem as it is found."""
        for problem in self._all():
            self.found += 1
            yield problem

    def _all(self) -> Iterator[Problem]:
        for chunk in sealed_leaves(self.using, self.seals.last_number):
            for leaf in chunk:
                node = tree_entry(leaf.entry_id, leaf.hash)
                yield from self.seals.add(leaf.seal_number or 0, node)
            yield from self._entries_of(chunk)
        yield from self.seals.finish()
        yield from unknown_seal_problems(self.using, self.seals.last_number)
        for chunk in unsealed_leaves(self.using):
            yield from self._entries_of(chunk)
        yield from forged_entries(self.using)
        yield from copied_entries(self.using)
        yield from erasure_problems(self.using, self.entries.key)
        yield from anchor_problems(self._anchors, self.using)
        yield from _count_problems(self.using)
        yield from self._lost_keys()

    def _entries_of(self, chunk: list[StoredLeaf]) -> Iterator[Problem]:
        yield from self.entries.check(chunk)
        self.leaves += len(chunk)
        self._progress(self.leaves)

    def _lost_keys(self) -> Iterator[Problem]:
        for key_id, times in sorted(self.entries.lost_keys.items()):
            message = f"is not in the settings; {times} signatures could not be checked"
            yield Problem("key_lost", f"key {key_id}", message)


def verification_record(verifier: LogVerifier) -> Verification:
    """Store the result of a finished verification, for the admin site."""
    newest = verifier.seals.newest
    return Verification.objects.create(
        started_at=verifier.started_at,
        finished_at=timezone.now(),
        seal_number=newest.number if newest else None,
        sealed_at=newest.sealed_at if newest else None,
        entries=verifier.entries.entries,
        problems=verifier.found,
    )


def _count_problems(using: str) -> Iterator[Problem]:
    counts, leaves = EntryCount._meta.db_table, Leaf._meta.db_table
    stored = f'SELECT COALESCE(SUM("count"), 0) FROM "{counts}" WHERE scope = \'\' AND period = %s'
    sql = (
        f"SELECT ({stored}), ({stored}), "
        f'(SELECT COUNT(*) FROM "{leaves}" WHERE seal_number IS NOT NULL AND erasure_id IS NULL)'
    )
    with connections[using].cursor() as cursor:
        cursor.execute(sql, [EntryCount.Period.ALL.value, EntryCount.Period.DAY.value])
        total, by_day, sealed = (int(number) for number in cursor.fetchone())
    if not total == by_day == sealed:
        message = (
            f"are {total} (by day {by_day}), not {sealed}; run 'manage.py audit_seal --recount'"
        )
        yield Problem("counts_wrong", "stored counts", message)
