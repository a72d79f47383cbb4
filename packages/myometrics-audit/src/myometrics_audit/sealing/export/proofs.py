"""Export as JSON Lines with proofs, which can be verified with the keys alone.

The order: a header; for each seal its line, the selected entries with their inclusion proofs, and
its erasures; last the unsealed entries and erasures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.db import router
from django.db.models import QuerySet
from django.utils import timezone

from ...log.entry_json import DETAIL_COLUMNS, entry_json
from ...log.models import AuditLog, Erasure, Leaf, Seal
from ...signing.canonical import canonical_address, canonical_moment
from ...signing.keys import find_key
from ...signing.merkle import inclusion_path, tree_levels
from ...signing.signatures import erasure_facts, seal_facts, tree_entry, tree_erasure
from ..verification.entry_checks import retained_subjects, signed_subject
from .batches import SealedBatch, sealed_batches

__all__ = ["FORMAT", "proof_lines"]

FORMAT = "myometrics-audit/1"


def proof_lines(
    entries: QuerySet[AuditLog] | None = None, *, using: str | None = None
) -> Iterator[str]:
    """Yield ``entries`` (default: all) with their proofs as JSON, one text per line.

    Holds one seal in memory at a time.
    """
    chosen = AuditLog.objects.all() if entries is None else entries
    alias = using or router.db_for_read(AuditLog)
    header = {"type": "header", "format": FORMAT, "exported_at": canonical_moment(timezone.now())}
    yield json.dumps(header)
    for batch in sealed_batches(chosen, alias):
        if batch.entries or batch.erasures:
            for line in _batch_lines(batch, alias):
                yield json.dumps(line, ensure_ascii=False)


def _batch_lines(batch: SealedBatch, using: str) -> Iterator[dict[str, Any]]:
    nodes = [tree_entry(leaf.entry_id, leaf.hash) for leaf in batch.leaves]
    nodes += [tree_erasure(erasure.pk, erasure.hash) for erasure in batch.erasures]
    levels = tree_levels(nodes) if batch.seal else []
    subjects = retained_subjects(batch.entries.values(), using)
    if batch.seal:
        yield _seal_line(batch.seal)
    for position, leaf in enumerate(batch.leaves):
        entry = batch.entries.get(leaf.entry_id)
        if entry is not None:
            line = _entry_line(entry, leaf, subjects)
            yield {**line, **_proof(batch, levels, position)}
    for place, erasure in enumerate(batch.erasures, start=len(batch.leaves)):
        yield {**_erasure_line(erasure), **_proof(batch, levels, place)}


def _proof(batch: SealedBatch, levels: list[list[bytes]], position: int) -> dict[str, Any]:
    if batch.seal is None:
        return {"seal": None}
    path = [[side, node.hex()] for side, node in inclusion_path(levels, position)]
    return {"seal": batch.seal.number, "position": position, "path": path}


def _seal_line(seal: Seal) -> dict[str, Any]:
    return {
        "type": "seal",
        **seal_facts(seal),
        "key_id": seal.key_id,
        "signature": bytes(seal.signature).hex(),
    }


def _entry_line(entry: AuditLog, leaf: Leaf, subjects: dict[str, Any]) -> dict[str, Any]:
    shown = entry_json({name: getattr(entry, name) for name in DETAIL_COLUMNS})
    # In the canonical form that the leaf covers.
    covered = {
        "timestamp": canonical_moment(entry.timestamp),
        "ip_address": canonical_address(entry.ip_address),
    }
    return {
        "type": "entry",
        "entry": {**shown, **covered},
        "pseudonym": entry.pseudonym,
        "activity_id": entry.activity_id,
        "subject": signed_subject(entry, leaf, find_key(leaf.key_id), subjects),
        "nonce": bytes(entry.nonce).hex(),
        "leaf": bytes(leaf.hash).hex(),
        "key_id": leaf.key_id,
    }


def _erasure_line(erasure: Erasure) -> dict[str, Any]:
    return {
        "type": "erasure",
        **erasure_facts(erasure),
        "nonce": bytes(erasure.nonce).hex(),
        "leaf": bytes(erasure.hash).hex(),
        "key_id": erasure.key_id,
    }
