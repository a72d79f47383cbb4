"""A verification run, from the first seal to the last unsealed leaf."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing import get_context
from typing import Any

from django.db import connections, router
from django.utils import timezone

from myometrics_core.db import read_in_batches

from ...log.models import EntryCount, Leaf, Seal, Verification
from ...signing.signatures import tree_entry
from ..erased_ranges import ErasedRanges
from .entry_checks import (
    EntryChecker,
    StoredLeaf,
    copied_entries,
    forged_entries,
    hidden_entries,
    impossible_entries,
    old_seals_of_new_ids,
    seal_before,
    sealed_leaves,
    unsealed_leaves,
)
from .erasure_checks import erasure_problems
from .problems import Problem
from .seal_checks import (
    KnownHead,
    SealChecker,
    anchor_problems,
    head_problems,
    newest_seal_number,
    unknown_seal_problems,
)

RANGE_LEAVES = 50_000
"""Leaves that a process verifies at a time."""


@dataclass
class RangeResult:
    """What the verification of a range of seals found."""

    problems: list[Problem] = field(default_factory=list)
    leaves: int = 0
    entries: int = 0
    seals: int = 0
    oldest: datetime | None = None
    lost_keys: Counter[str] = field(default_factory=Counter)


class LogVerifier:
    """Verify the log: iterate :meth:`problems`, then read the counters.

    ``anchors`` are published seals (``number``, ``signature``) that must still exist, ``heads``
    published heads of the tree of seals. With ``since`` only what was sealed after that head is
    read. ``jobs`` processes verify the sealed entries, if it is more than 1. ``progress`` is called
    with the number of leaves checked so far. Seals created after the start are left to the next
    verification.
    """

    def __init__(
        self,
        *,
        using: str | None = None,
        anchors: Iterable[dict[str, Any]] = (),
        heads: Iterable[KnownHead] = (),
        since: KnownHead | None = None,
        jobs: int = 1,
        progress: Callable[[int], object] = lambda checked: None,
    ) -> None:
        self.using = using or router.db_for_read(Leaf)
        self.started_at: datetime = timezone.now()
        self.leaves = 0
        self.found = 0
        self._until = newest_seal_number(self.using)
        self._after = min(since.size, self._until) if since else 0
        self._heads = [*heads, since] if since else list(heads)
        self.entries = EntryChecker(self.using)
        self.seals = self._seal_checker(self._after, self._until)
        self._jobs = jobs
        self._anchors = anchors
        self._progress = progress

    def _seal_checker(self, after: int, until: int) -> SealChecker:
        return SealChecker(self.using, self.entries.key, after=after, until=until)

    def problems(self) -> Iterator[Problem]:
        """Yield each problem as it is found."""
        for problem in self._all():
            self.found += 1
            yield problem

    def _all(self) -> Iterator[Problem]:
        using, after = self.using, self._after
        if self._jobs > 1:
            yield from self._sealed_in_processes()
        else:
            yield from self._sealed(self.seals, after, self._until)
        if after:
            yield from self._old_seals_of_new_ids()
        yield from unknown_seal_problems(using, self._until)
        for chunk in unsealed_leaves(using):
            yield from self._entries_of(chunk)
        yield from impossible_entries(using)
        yield from forged_entries(using, after)
        yield from hidden_entries(using)
        yield from copied_entries(using, self._last_seal_without_originals())
        yield from erasure_problems(using, self.entries.key, after)
        yield from anchor_problems(self._anchors, using)
        if self._heads:
            yield from head_problems(self._heads, using)
        if not after:
            yield from _count_problems(using)
        yield from self._lost_keys()

    def _sealed(self, seals: SealChecker, after: int, until: int) -> Iterator[Problem]:
        for chunk in sealed_leaves(self.using, after, until):
            yield from _add(chunk, seals)
            yield from self._entries_of(chunk)
        yield from seals.finish()

    def _old_seals_of_new_ids(self) -> Iterator[Problem]:
        """Compare the leaves of old seals with them: a forged one could cover a new entry."""
        for number in old_seals_of_new_ids(self.using, self._after):
            # Without keys: the checkpoint covers the values that the signature does.
            seals = SealChecker(self.using, lambda _: None, after=number - 1, until=number)
            for chunk in sealed_leaves(self.using, number - 1, number):
                yield from _add(chunk, seals)
            yield from seals.finish()

    def _entries_of(self, chunk: list[StoredLeaf]) -> Iterator[Problem]:
        yield from self.entries.check(chunk)
        self.leaves += len(chunk)
        self._progress(self.leaves)

    def _sealed_in_processes(self) -> Iterator[Problem]:
        ranges = _seal_ranges(self.using, self._after, self._until)
        # The processes are copies of this one: each opens its own connection.
        connections.close_all()
        with ProcessPoolExecutor(self._jobs, mp_context=get_context("fork")) as pool:
            for future in [pool.submit(verify_range, self.using, *one) for one in ranges]:
                result = future.result()
                self.leaves += result.leaves
                self.entries.entries += result.entries
                self.entries.lost_keys += result.lost_keys
                self.seals.seals += result.seals
                times = filter(None, (self.entries.oldest, result.oldest))
                self.entries.oldest = min(times, default=None)
                self._progress(self.leaves)
                yield from result.problems
        self.seals.newest = Seal.objects.using(self.using).filter(number=self._until).first()

    def _last_seal_without_originals(self) -> int:
        """Return the last seal that can't cover the original of a copy among the new entries.

        A copy has the time of its original, which was sealed later than that.
        """
        if not self._after or self.entries.oldest is None:
            return self._after
        return min(self._after, seal_before(self.entries.oldest, self.using))

    def _lost_keys(self) -> Iterator[Problem]:
        for key_id, times in sorted(self.entries.lost_keys.items()):
            message = f"is not in the settings; {times} signatures could not be checked"
            yield Problem("key_lost", f"key {key_id}", message)


def _add(chunk: list[StoredLeaf], seals: SealChecker) -> Iterator[Problem]:
    for leaf in chunk:
        node = tree_entry(leaf.entry_id, leaf.hash)
        yield from seals.add(leaf.seal_number or 0, node)


def verify_range(using: str, after: int, until: int) -> RangeResult:
    """Verify the seals after ``after`` up to ``until``, in a process of its own."""
    verifier = LogVerifier(using=using)
    seals = verifier._seal_checker(after, until)
    problems = list(verifier._sealed(seals, after, until))
    entries = verifier.entries
    return RangeResult(
        problems=problems,
        leaves=verifier.leaves,
        entries=entries.entries,
        seals=seals.seals,
        oldest=entries.oldest,
        lost_keys=entries.lost_keys,
    )


def _seal_ranges(using: str, after: int, until: int) -> list[tuple[int, int]]:
    """Split the seals into ranges of about ``RANGE_LEAVES`` leaves; each begins at a seal."""
    ranges, start, leaves = [], after, 0
    seals = Seal.objects.using(using).filter(number__gt=after, number__lt=until)
    for seal in read_in_batches(seals.order_by("number").values("number", "entries")):
        leaves += max(seal["entries"], 0)
        if leaves >= RANGE_LEAVES:
            ranges.append((start, seal["number"]))
            start, leaves = seal["number"], 0
    return [*ranges, (start, until)]


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
    total = f'SELECT COALESCE(SUM("count"), 0) FROM "{counts}" WHERE period = \'A\' AND '
    sums = ", ".join(
        f"SUM(CASE WHEN period = '{period}' THEN \"count\" ELSE 0 END) AS {period}"
        for period in ("A", "M", "D")
    )
    by_scope = f'SELECT {sums} FROM "{counts}" GROUP BY scope'
    # Those of actions are counted twice: also together with the type of the resource.
    sql = (
        f"SELECT ({total} scope = ''), ({total} substr(scope, 1, 2) = 't:'), "
        f"({total} substr(scope, 1, 2) = 'a:'), "
        f"(SELECT COUNT(*) FROM ({by_scope}) sums WHERE A <> M OR A <> D), "
        f'(SELECT COUNT(*) FROM "{leaves}" WHERE seal_number IS NOT NULL AND erasure_id IS NULL)'
    )
    erased, before = _range_entries(using), -1
    while erased != before:  # a range was erased while they were counted
        with connections[using].cursor() as cursor:
            cursor.execute(sql)
            entries, of_types, of_actions, wrong, sealed = map(int, cursor.fetchone())
        before, erased = erased, _range_entries(using)
    sealed -= erased
    if wrong or (entries, of_types, of_actions) != (sealed, sealed, 2 * sealed):
        message = (
            f"are {entries}, not {sealed}, or contradict each other; "
            "run 'manage.py audit_seal --recount'"
        )
        yield Problem("counts_wrong", "stored counts", message)


def _range_entries(using: str) -> int:
    return sum(one.entries for one in ErasedRanges.load(using).ranges)
