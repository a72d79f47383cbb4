"""The log in seal order, each row with its evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from django.db.models import Q

from ...listing.selection import Selection
from ...log.models import AuditLog, Erasure, Leaf, Seal

__all__ = ["ExportFilter", "SealedBatch", "batches"]

UNSEALED_BATCH = 5000


@dataclass(frozen=True, kw_only=True)
class ExportFilter:
    """The entries to export. Leaves of unselected entries are read too: proofs need them."""

    selection: Selection = field(default_factory=Selection)


@dataclass(frozen=True)
class SealedBatch:
    """The leaves of one seal in order; ``seal`` is ``None`` for unsealed leaves."""

    seal: Seal | None
    leaves: Sequence[Leaf]
    erasures: Sequence[Erasure]
    entries: dict[int, AuditLog]


def batches(chosen: ExportFilter, using: str) -> Iterator[SealedBatch]:
    """Yield a batch per seal, in order, then batches of unsealed leaves and erasures."""
    number = 0
    seals = Seal.objects.using(using).order_by("number")
    while (seal := seals.filter(number__gt=number).first()) is not None:
        number = seal.number
        leaves = list(Leaf.objects.using(using).filter(seal_number=number).order_by("entry_id"))
        erasures = list(Erasure.objects.using(using).filter(seal_number=number).order_by("id"))
        yield SealedBatch(seal, leaves, erasures, _entries(leaves, chosen, using))
    yield from _unsealed(chosen, number, using)


def _unsealed(chosen: ExportFilter, number: int, using: str) -> Iterator[SealedBatch]:
    # Include leaves that a concurrent sealer has sealed after seal ``number`` was read.
    was_waiting = Q(seal_number=None) | Q(seal_number__gt=number)
    waiting = Leaf.objects.using(using).filter(was_waiting).order_by("entry_id")
    erasures = list(Erasure.objects.using(using).filter(was_waiting).order_by("id"))
    leaves = list(waiting[:UNSEALED_BATCH])
    while leaves or erasures:
        yield SealedBatch(None, leaves, erasures, _entries(leaves, chosen, using))
        last, erasures = (leaves[-1].entry_id if leaves else 0), []
        leaves = list(waiting.filter(entry_id__gt=last)[:UNSEALED_BATCH]) if leaves else []


def _entries(leaves: Sequence[Leaf], chosen: ExportFilter, using: str) -> dict[int, AuditLog]:
    ids = [leaf.entry_id for leaf in leaves if leaf.erasure_id is None]
    entries = AuditLog._base_manager.using(using).filter(chosen.selection.condition())
    return {entry.pk: entry for entry in entries.filter(pk__in=ids)} if ids else {}
