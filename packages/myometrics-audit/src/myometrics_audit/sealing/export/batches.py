"""The log in seal order, each row with its evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.db.models import Q, QuerySet

from ...log.models import AuditLog, Erasure, Leaf, Seal

UNSEALED_BATCH = 5000


@dataclass(frozen=True)
class SealedBatch:
    """The leaves of one seal in order; ``seal`` is ``None`` for unsealed leaves."""

    seal: Seal | None
    leaves: Sequence[Leaf]
    erasures: Sequence[Erasure]
    entries: dict[int, AuditLog]


def sealed_batches(
    entries: QuerySet[AuditLog], using: str, *, since: int = 1, until: int | None = None
) -> Iterator[SealedBatch]:
    """Yield a batch per seal, in order, then batches of unsealed leaves and erasures.

    A batch has all its leaves, because proofs need them, but only those of ``entries``. Seals
    before ``since`` are left out; with ``until`` those after it, and what is not sealed.
    """
    number = since - 1
    seals = Seal.objects.using(using).order_by("number")
    if until is not None:
        seals = seals.filter(number__lte=until)
    while (seal := seals.filter(number__gt=number).first()) is not None:
        number = seal.number
        leaves = list(Leaf.objects.using(using).filter(seal_number=number).order_by("entry_id"))
        erasures = list(Erasure.objects.using(using).filter(seal_number=number).order_by("id"))
        yield SealedBatch(seal, leaves, erasures, _entries(leaves, entries, using))
    if until is None:
        yield from _unsealed(entries, number, using)


def _unsealed(entries: QuerySet[AuditLog], number: int, using: str) -> Iterator[SealedBatch]:
    # Include leaves that a concurrent sealer has sealed after seal ``number`` was read.
    was_unsealed = Q(seal_number=None) | Q(seal_number__gt=number)
    unsealed = Leaf.objects.using(using).filter(was_unsealed).order_by("entry_id")
    erasures = list(Erasure.objects.using(using).filter(was_unsealed).order_by("id"))
    leaves = list(unsealed[:UNSEALED_BATCH])
    while leaves or erasures:
        yield SealedBatch(None, leaves, erasures, _entries(leaves, entries, using))
        last, erasures = (leaves[-1].entry_id if leaves else 0), []
        leaves = list(unsealed.filter(entry_id__gt=last)[:UNSEALED_BATCH]) if leaves else []


def _entries(
    leaves: Sequence[Leaf], entries: QuerySet[AuditLog], using: str
) -> dict[int, AuditLog]:
    ids = [leaf.entry_id for leaf in leaves if leaf.erasure_id is None]
    return {entry.pk: entry for entry in entries.using(using).filter(pk__in=ids)} if ids else {}
