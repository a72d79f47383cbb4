"""Removal of closed partitions whose entries are all older than the retention period.

The evidence, the counts and the archive are prepared without locks, which may take minutes. One
short transaction then signs the erasure and drops the partition, unless an erasure or a legal hold
has changed its entries since.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from django.db import OperationalError, models
from django.db.models import Q

from myometrics_core.db import read_committed
from myometrics_core.db.table_locks import alter_with_short_locks
from myometrics_core.jobs import enqueue

from ..log.models import AuditLog, Erasure, Leaf, Seal
from ..sealing.erased_ranges import ErasedRange, ErasedRanges
from ..sealing.erasures import (
    RangeErasure,
    entries_erase,
    leaf_pairs,
    range_erasure_prepare,
    range_erasure_write,
)
from ..sealing.export import archive_lines
from ..sealing.holds import held_condition
from ..sealing.locks import evidence_lock
from ..signing.signatures import erasure_digest
from .archives import Archive, ArchiveFailed, ArchiveInUse, written_archive
from .catalog import execute, is_owner, is_partitioned
from .conversion import LOCK_TIMEOUT_MS
from .models import Partition
from .removed_activities import REMOVED_ACTIVITIES_JOB
from .replacement import replace_partition

MAX_KEPT: Final = 10_000
"""Held entries of a partition that is dropped all the same; their ids are part of the erasure."""
MAX_ROUNDS: Final = 3
LOCK_ATTEMPTS: Final = 30
PAUSE_SECONDS: Final = 1.0
ADVICE: Final = "run the command again"


class NotDropped(Exception):
    """A partition can't be dropped; the text says why."""


class NotDroppedYet(NotDropped):
    """A partition can be dropped later, or by another role."""


@dataclass(frozen=True)
class Dropped:
    """The numbers of entries that were erased, and that a legal hold keeps."""

    entries: int
    kept: int
    archive: Path | None = None

    @property
    def is_whole(self) -> bool:
        """Return whether nothing is left of the partition."""
        return not self.kept


class _Changed(Exception):
    """The entries were changed since they were read."""


def due_partitions(before: datetime, using: str) -> list[Partition] | None:
    """Return the closed partitions whose entries are all from before a time, the oldest first.

    ``None`` if the log is not partitioned.
    """
    if not is_partitioned(using):
        return None
    closed = Partition.objects.using(using).filter(closed_at__isnull=False)
    return list(closed.filter(Q(newest__lt=before) | Q(newest=None)).order_by("first_id"))


class PartitionDrop:
    """The removal of one partition from :func:`due_partitions`.

    With ``folder`` its entries are written to a file first. ``progress`` is called with the number
    of lines of this file written so far.
    """

    def __init__(
        self,
        partition: Partition,
        *,
        before: datetime,
        using: str,
        folder: Path | None = None,
        progress: Callable[[int], object] = lambda written: None,
    ) -> None:
        self.partition, self.before, self.using = partition, before, using
        self.folder, self._progress = folder, progress

    def run(self) -> Dropped | None:
        """Erase the entries and drop the partition; ``None`` if another process does it.

        Held entries stay, in a small partition with the same ids. Raises :class:`NotDropped`.
        """
        if not is_owner(self.using):
            raise NotDroppedYet(
                "This database role may not drop it. Run the command as the owner of the tables."
            )
        for _ in range(MAX_ROUNDS):
            try:
                with read_committed(self.using):
                    return self._run_once()
            except _Changed:
                continue
            except ArchiveInUse:
                return None
            except ArchiveFailed as error:
                raise NotDropped(str(error)) from error
            except OperationalError as error:
                raise NotDroppedYet(str(error)) from error
        raise NotDroppedYet(
            "Its entries were changed again and again by erasures or legal holds while they were "
            f"read. To remove it, {ADVICE}."
        )

    def _run_once(self) -> Dropped | None:
        partition, using = self.partition, self.using
        watch = _ErasureWatch(using)
        held = held_condition(using)
        erased = ErasedRange(partition.first_id, partition.end_id, self._kept(held))
        ranges = ErasedRanges.load(using).ranges
        is_rest = any(one.first_id == erased.first_id for one in ranges)
        try:
            prepared = _prepare_rest(erased, using) if is_rest else self._prepare(erased)
            if prepared.entries == 0 and erased.kept:
                return Dropped(0, len(erased.kept))
            with self._archive(prepared, is_rest) as archive:

                def drop() -> bool:
                    execute(using, "SET LOCAL lock_timeout = 0")  # the sealer can take seconds
                    with evidence_lock(using):
                        if not self._exists():
                            return False
                        if held_condition(using) != held or watch.has_changed(erased):
                            raise _Changed
                        execute(using, f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                        self._erase(prepared, archive, is_rest)
                        return True

                if not _with_short_locks(drop, using):
                    return None
        except (ArchiveFailed, NotDropped):
            if not self._exists():
                return None
            if watch.has_changed(erased):
                raise _Changed from None
            raise
        return Dropped(prepared.entries, len(erased.kept), archive.path if archive else None)

    def _exists(self) -> bool:
        partitions = Partition.objects.using(self.using)
        return partitions.filter(pk=self.partition.pk, closed_at=self.partition.closed_at).exists()

    def _kept(self, held: Q | None) -> frozenset[int]:
        if held is None:
            return frozenset()
        bounds = ErasedRange(self.partition.first_id, self.partition.end_id, frozenset())
        ids = bounds.rows(self.using).filter(held).values_list("pk", flat=True)
        kept = frozenset(ids[: MAX_KEPT + 1])
        if len(kept) > MAX_KEPT:
            raise NotDropped(
                f"More than {MAX_KEPT:,} of its entries are under a legal hold. Run audit_purge "
                "without --partitions-only and --archive: it removes the others one by one."
            )
        return kept

    def _prepare(self, erased: ErasedRange) -> RangeErasure:
        if erased.rows(self.using).filter(timestamp__gte=self.before).exists():
            raise NotDropped(
                "It has newer entries, although its stored times say otherwise. Run "
                "'manage.py audit_verify'; nothing was removed."
            )
        prepared = range_erasure_prepare(erased, using=self.using)
        if not prepared.has_all_entries:
            raise NotDropped(
                "Its entries are not those that its evidence proves, so it is not dropped. Run "
                "'manage.py audit_verify'."
            )
        return prepared

    def _archive(
        self, prepared: RangeErasure, is_rest: bool
    ) -> AbstractContextManager[Archive | None]:
        """Write the archive, if one is wanted."""
        if self.folder is None or prepared.entries == 0:
            return nullcontext()
        name = f"audit-{self.partition.first_id}-{self.partition.end_id - 1}"
        if is_rest:
            name += f"-rest-{prepared.digest.hex()[:16]}"
        lines = archive_lines(prepared.erased.rows(self.using), using=self.using)
        return written_archive(
            self.folder / f"{name}.jsonl.gz",
            lines,
            entries=prepared.entries,
            progress=self._progress,
        )

    def _erase(self, prepared: RangeErasure, archive: Archive | None, is_rest: bool) -> None:
        using, erased = self.using, prepared.erased
        details: dict[str, Any] = {"older_than": self.before.isoformat()}
        if archive is not None:
            details["archive"] = {"file": archive.path.name, "sha256": archive.sha256}
        if is_rest:
            rows = erased.rows(using)
            entries_erase(rows, reason=Erasure.Reason.PURGE, details=details, using=using)
        elif prepared.entries:
            range_erasure_write(prepared, details=details, using=using)
            bounds = {"first_id": erased.first_id, "end_id": erased.end_id}
            key = f"{erased.first_id}-{erased.end_id}"
            enqueue(REMOVED_ACTIVITIES_JOB, bounds, key=key)
        if not (is_rest and erased.kept):
            replace_partition(self.partition, sorted(erased.kept), using)
        if archive is not None:
            # Last, so that no other process has dropped the partition with a file of this name.
            archive.publish()


def _with_short_locks(drop: Callable[[], bool], using: str) -> bool:
    return alter_with_short_locks(
        drop,
        using=using,
        timeout_ms=LOCK_TIMEOUT_MS,
        attempts=LOCK_ATTEMPTS,
        pause_seconds=PAUSE_SECONDS,
        advice=ADVICE,
    )


def _prepare_rest(erased: ErasedRange, using: str) -> RangeErasure:
    """Return the evidence for the entries that a hold has kept when the range was erased."""
    leaves = Leaf.objects.using(using).filter(entry_id__in=erased.rows(using).values("pk"))
    count, digest = erasure_digest(leaf_pairs(leaves))
    return RangeErasure(erased, count, digest)


class _ErasureWatch:
    """Finds erasures that were written after it was created, by their seals."""

    def __init__(self, using: str) -> None:
        self._using = using
        newest = Seal.objects.using(using).order_by("-number").values_list("number", flat=True)
        self._seal_number = newest.first() or 0
        self._known = list(self._recent().values_list("pk", flat=True))

    def _recent(self) -> models.QuerySet[Erasure]:
        recent = Q(seal_number=None) | Q(seal_number__gt=self._seal_number)
        return Erasure.objects.using(self._using).filter(recent)

    def has_changed(self, erased: ErasedRange) -> bool:
        """Return whether one of them concerns an entry of the range."""
        new = list(self._recent().exclude(pk__in=self._known).values_list("pk", "pseudonym"))
        if not new:
            return False
        within = Leaf.objects.using(self._using).filter(
            entry_id__gte=erased.first_id,
            entry_id__lt=erased.end_id,
            erasure_id__in=[erasure_id for erasure_id, _ in new],
        )
        pseudonyms = [pseudonym for _, pseudonym in new if pseudonym]
        retained = AuditLog._base_manager.using(self._using).filter(
            pk__gte=erased.first_id, pk__lt=erased.end_id, pseudonym__in=pseudonyms
        )
        return within.exists() or (bool(pseudonyms) and retained.exists())
