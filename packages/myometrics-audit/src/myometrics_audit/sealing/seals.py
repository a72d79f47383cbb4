"""Sealing: sign a Merkle root over unsealed leaves, and count their entries.

Each batch is one transaction: a killed sealer leaves no partial seal, and the next run continues.
The transaction also enqueues the job that publishes the seal's anchor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections, router
from django.utils import timezone

from myometrics_core.jobs import enqueue
from myometrics_core.times import whole_milliseconds

from ..conf import audit_settings
from ..log.bulk_values import one_of
from ..log.models import AuditLog, Erasure, Leaf, Seal
from ..signing.keys import active_key
from ..signing.merkle import MerkleTree
from ..signing.signatures import GENESIS, seal_signature, tree_entry, tree_erasure
from .counts import COUNTED_COLUMNS, count_changes, counts_add
from .locks import try_evidence_lock

logger = logging.getLogger("myometrics.audit.seal")

MAX_ERASURES = 500
ANCHOR_JOB = "myometrics_audit.anchor"
"""The kind of the job that publishes anchors; its key is empty."""


def _always(using: str) -> bool:
    return True


_seal_jobs: dict[str, Callable[[str], bool]] = {ANCHOR_JOB: _always}


def register_seal_job(kind: str, is_needed: Callable[[str], bool] = _always) -> None:
    """Enqueue the job of ``kind``, with an empty key, in the transaction of each seal.

    Only if ``is_needed`` returns true for the alias of the database.
    """
    _seal_jobs[kind] = is_needed


@dataclass(frozen=True)
class SealProgress:
    """Progress of sealing: seals written, leaves sealed, and the newest seal's number."""

    seals: int
    leaves: int
    number: int | None


def seal_pending(*, using: str | None = None) -> Iterator[SealProgress]:
    """Seal all unsealed leaves and erasures in batches; yield after each batch.

    Returns immediately if another sealer is running.
    """
    alias = using or router.db_for_write(Seal)
    if Seal.objects.using(alias).filter(anchored_at=None).exists():
        enqueue(ANCHOR_JOB, key="")  # unless it is pending: of an earlier release, or cancelled
    seals = leaves = 0
    while (seal := _seal_next(alias)) is not None:
        seals += 1
        leaves += seal.entries + seal.erasures
        yield SealProgress(seals=seals, leaves=leaves, number=seal.number)


def unsealed_count() -> int:
    """Return the number of unsealed leaves."""
    return Leaf.objects.filter(seal_number=None).count()


def _seal_next(using: str) -> Seal | None:
    with try_evidence_lock(using) as is_ours:
        if not is_ours:
            logger.info("Another sealer is running")
            return None
        leaves = _unsealed_leaves(using)
        erasures = _unsealed_erasures(using)
        if not leaves and not erasures:
            return None
        tree = MerkleTree(tree_entry(leaf.entry_id, leaf.hash) for leaf in leaves)
        for erasure in erasures:
            tree.append(tree_erasure(erasure.pk, erasure.hash))
        seal = _seal_sign(tree.root(), len(leaves), len(erasures), using)
        _mark_sealed([leaf.entry_id for leaf in leaves], erasures, seal.number, using)
        _count([leaf.entry_id for leaf in leaves if leaf.erasure_id is None], using)
        for kind, is_needed in _seal_jobs.items():
            if is_needed(using):
                enqueue(kind, key="")
        return seal


def _unsealed_leaves(using: str) -> list[Any]:
    # In the order of the index: by the id alone, PostgreSQL may read all leaves by their key.
    leaves = Leaf.objects.using(using).filter(seal_number=None).order_by("seal_number", "entry_id")
    rows = leaves.values_list("entry_id", "hash", "erasure_id", named=True)
    return list(rows[: audit_settings.SEAL_BATCH_SIZE])


def _unsealed_erasures(using: str) -> list[Erasure]:
    erasures = Erasure.objects.using(using).filter(seal_number=None).order_by("id")
    return list(erasures.only("id", "hash")[:MAX_ERASURES])


def _seal_sign(root: bytes, entries: int, erasures: int, using: str) -> Seal:
    last = Seal.objects.using(using).order_by("-number").first()
    key = active_key()
    seal = Seal(
        number=last.number + 1 if last else 1,
        root=root,
        entries=entries,
        erasures=erasures,
        sealed_at=whole_milliseconds(timezone.now()),
        previous=bytes(last.signature) if last else GENESIS,
        key_id=key.id,
    )
    seal.signature = seal_signature(seal, key)
    seal.save(force_insert=True, using=using)
    return seal


def _mark_sealed(
    entry_ids: Sequence[int], erasures: Sequence[Erasure], number: int, using: str
) -> None:
    condition, values = one_of("entry_id", entry_ids, using)
    with connections[using].cursor() as cursor:
        cursor.execute(
            f'UPDATE "{Leaf._meta.db_table}" SET seal_number = %s WHERE {condition}',
            [number, *values],
        )
    chosen = Erasure.objects.using(using).filter(pk__in=[erasure.pk for erasure in erasures])
    chosen.update(seal_number=number)


def _count(entry_ids: Sequence[int], using: str) -> None:
    condition, values = one_of("id", entry_ids, using)
    entries = AuditLog._base_manager.using(using).order_by()
    counted = entries.extra(where=[condition], params=values)  # noqa: S610
    counts_add(count_changes(counted.values_list(*COUNTED_COLUMNS)), using=using)
