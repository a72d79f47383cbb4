"""Sealing: unsealed leaves become a signed Merkle root, and their entries are counted.

Each batch is one transaction, so a sealer that is killed anywhere leaves either nothing or a
whole seal behind; the next run goes on from there and publishes anchors that were not yet.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import router
from django.utils import timezone

from .canonical import canonical_moment
from .conf import audit_settings
from .counts import count_changes, counts_add
from .evidence import GENESIS, seal_signature
from .keys import active_key
from .locks import try_evidence_lock
from .merkle import MerkleTree
from .models import AuditLog, Erasure, Leaf, Seal

__all__ = ["SealProgress", "anchor_of", "seal_pending", "unsealed_count"]

logger = logging.getLogger("myometrics.audit.seal")
anchor_logger = logging.getLogger("myometrics.audit.anchor")

UPDATE_ROWS = 900


@dataclass(frozen=True)
class SealProgress:
    """What sealing has done so far: seals written, leaves sealed, newest seal's number."""

    seals: int
    leaves: int
    number: int | None


def seal_pending(*, using: str | None = None) -> Iterator[SealProgress]:
    """Seal everything that is unsealed, batch by batch; yields after each batch.

    Ends at once when another sealer is at work.
    """
    alias = using or router.db_for_write(Seal)
    seals_anchor(using=alias)
    seals = leaves = 0
    while (seal := _seal_next(alias)) is not None:
        seals += 1
        leaves += seal.entries + seal.erasures
        seals_anchor(using=alias)
        yield SealProgress(seals=seals, leaves=leaves, number=seal.number)


def unsealed_count(*, using: str | None = None) -> int:
    """How many leaves of entries wait for a seal."""
    alias = using or router.db_for_read(Leaf)
    return Leaf.objects.using(alias).filter(seal_number=None).count()


def anchor_of(seal: Seal) -> dict[str, Any]:
    """What is published of a seal: enough to prove later that it was there."""
    return {
        "number": seal.number,
        "signature": bytes(seal.signature).hex(),
        "sealed_at": canonical_moment(seal.sealed_at),
        "entries": seal.entries,
    }


def seals_anchor(*, using: str) -> None:
    """Publish every seal that was not yet: to the log, the file and the hook of the settings.

    What fails is logged and tried again at the next run; sealing goes on.
    """
    for seal in list(Seal.objects.using(using).filter(anchored_at=None).order_by("number")):
        try:
            _publish(anchor_of(seal))
        except Exception:
            logger.exception("Seal %s could not be anchored; the next run tries again", seal.number)
            return
        waiting = Seal.objects.using(using).filter(number=seal.number, anchored_at=None)
        waiting.update(anchored_at=timezone.now())


def _publish(anchor: dict[str, Any]) -> None:
    line = json.dumps(anchor, sort_keys=True)
    anchor_logger.info("%s", line, extra={"anchor": anchor})
    if audit_settings.ANCHOR_FILE:
        with Path(audit_settings.ANCHOR_FILE).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    if audit_settings.ANCHOR_HOOK is not None:
        audit_settings.ANCHOR_HOOK(anchor)


def _seal_next(using: str) -> Seal | None:
    with try_evidence_lock(using) as is_ours:
        if not is_ours:
            logger.info("Another sealer is at work")
            return None
        leaves = _unsealed_leaves(using)
        erasures = _unsealed_erasures(using)
        if not leaves and not erasures:
            return None
        seal = _seal_sign(leaves, erasures, using)
        _mark_sealed(Leaf, "entry_id", [leaf.entry_id for leaf in leaves], seal.number, using)
        _mark_sealed(Erasure, "id", [erasure.id for erasure in erasures], seal.number, using)
        _count(leaves, using)
        return seal


def _unsealed_leaves(using: str) -> list[Leaf]:
    leaves = Leaf.objects.using(using).filter(seal_number=None).order_by("entry_id")
    return list(leaves[: audit_settings.SEAL_BATCH_SIZE])


def _unsealed_erasures(using: str) -> list[Erasure]:
    erasures = Erasure.objects.using(using).filter(seal_number=None).order_by("id")
    return list(erasures.only("id", "hash")[: audit_settings.SEAL_BATCH_SIZE])


def _seal_sign(leaves: Sequence[Leaf], erasures: Sequence[Erasure], using: str) -> Seal:
    last = Seal.objects.using(using).order_by("-number").first()
    tree = MerkleTree(bytes(leaf.hash) for leaf in leaves)
    for erasure in erasures:
        tree.append(bytes(erasure.hash))
    key = active_key()
    seal = Seal(
        number=last.number + 1 if last else 1,
        root=tree.root(),
        entries=len(leaves),
        erasures=len(erasures),
        sealed_at=timezone.now(),
        previous=bytes(last.signature) if last else GENESIS,
        key_id=key.id,
    )
    seal.signature = seal_signature(seal, key)
    seal.save(force_insert=True, using=using)
    return seal


def _mark_sealed(
    model: type[Leaf] | type[Erasure], key: str, ids: Sequence[Any], number: int, using: str
) -> None:
    for first in range(0, len(ids), UPDATE_ROWS):
        chosen = {f"{key}__in": ids[first : first + UPDATE_ROWS]}
        model.objects.using(using).filter(**chosen).update(seal_number=number)  # type: ignore[attr-defined]


def _count(leaves: Sequence[Leaf], using: str) -> None:
    ids = [leaf.entry_id for leaf in leaves if leaf.erasure_id is None]
    for first in range(0, len(ids), UPDATE_ROWS):
        entries = AuditLog._base_manager.using(using).filter(
            pk__in=ids[first : first + UPDATE_ROWS]
        )
        facts = entries.order_by().values("user_id", "action", "resource_type", "timestamp")
        counts_add(count_changes(facts), using=using)
