"""Export as JSON Lines with proofs, which can be verified with the keys alone.

Entries of version 2 have the text that their leaf covers as ``row``: they can be verified without
any key. The order: a header; for each seal its line, the selected entries with their inclusion
proofs, and its erasures; last the unsealed entries and erasures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import models, router
from django.db.models import QuerySet
from django.utils import timezone

from myometrics_core.db import read_in_batches
from myometrics_core.http import canonical_address
from myometrics_core.times import utc_text

from ...log.entry_json import DETAIL_COLUMNS, entry_json
from ...log.models import OPTIONAL_LENGTHS, AuditLog, Erasure, Leaf, Seal
from ...signing.canonical import canonical_json, canonical_moment
from ...signing.keys import find_key
from ...signing.merkle import NodeAt, inclusion_path, inclusion_proof, tree_levels
from ...signing.signatures import (
    canonical_entry_v2,
    erasure_facts,
    seal_facts,
    tree_entry,
    tree_erasure,
    tree_seal,
)
from ..erased_ranges import ErasedRanges
from ..verification.entry_checks import retained_subjects, signed_subject
from .batches import SealedBatch, sealed_batches

FORMAT = "myometrics-audit/2"


@dataclass(frozen=True)
class SealTree:
    """The tree of the first ``size`` seals, for the proofs of seals."""

    size: int
    node_at: NodeAt


def proof_lines(
    entries: QuerySet[AuditLog] | None = None,
    *,
    using: str | None = None,
    tree: SealTree | None = None,
    only_seal: int | None = None,
) -> Iterator[str]:
    """Yield ``entries`` (default: all) with their proofs as JSON, one text per line.

    Holds one seal in memory at a time. With ``tree`` each seal has its proof in this tree, newer
    seals are left out, and an export of all entries has a line for each erased one, too: it is
    then proved to be complete. With ``only_seal`` it has only the seal of this number. With either,
    erasures under other seals that the lines refer to follow as if they were not sealed.
    """
    chosen = AuditLog.objects.all() if entries is None else entries
    alias = using or router.db_for_read(AuditLog)
    is_complete = tree is not None and entries is None
    header = _header()
    yield json.dumps({**header, "complete": is_complete} if tree else header)
    until = tree.size if tree else only_seal
    missing = _MissingEntries(alias) if is_complete else None
    named: set[str] = set()
    for batch in sealed_batches(chosen, alias, since=only_seal or 1, until=until):
        if batch.entries or batch.erasures or is_complete:
            for line in _batch_lines(batch, alias, tree, missing):
                named |= _named_erasure(line)
                yield json.dumps(line, ensure_ascii=False)
    if until is not None and named:
        others = _other_erasures(named, alias, until=until, only_seal=only_seal)
        yield from _batch_texts(SealedBatch(None, [], others, {}), alias)


def _named_erasure(line: Mapping[str, Any]) -> set[str]:
    """Return the erasure that a line refers to, if any: its id or its pseudonym."""
    name = {"entry": "pseudonym", "erased": "erasure"}.get(line["type"])
    return {line[name]} if name and line[name] else set()


def _names(erasure: Erasure) -> set[str]:
    return {str(erasure.pk), erasure.pseudonym or str(erasure.pk)}


def _other_erasures(
    named: set[str], using: str, *, until: int, only_seal: int | None
) -> list[Erasure]:
    erasures = Erasure.objects.using(using).order_by("id")
    if only_seal is not None:
        return list(erasures.filter(pseudonym__in=named).exclude(seal_number=only_seal))
    newer = erasures.filter(models.Q(seal_number=None) | models.Q(seal_number__gt=until))
    return [one for one in read_in_batches(newer, size=500) if _names(one) & named]


def archive_lines(entries: QuerySet[AuditLog], *, using: str) -> Iterator[str]:
    """Yield sealed ``entries`` with their proofs, which can be verified on their own.

    Reads only the seals from the first to the last of these entries, and those with the erasures
    that assigned the pseudonyms of these entries.
    """
    yield json.dumps(_header())
    leaves = Leaf.objects.using(using).filter(entry_id__in=entries.values("pk"))
    seals = leaves.aggregate(first=models.Min("seal_number"), last=models.Max("seal_number"))
    first, last = seals["first"] or 1, seals["last"] or 0
    pseudonyms = entries.exclude(pseudonym="").values_list("pseudonym", flat=True).distinct()
    retained = Erasure.objects.using(using).filter(
        reason=Erasure.Reason.RETAIN, pseudonym__in=list(pseudonyms)
    )
    # An erasure is sealed before its entries if many entries wait for their seal.
    numbers = sorted({number or 0 for number in retained.values_list("seal_number", flat=True)})
    spans = [
        *((number, number) for number in numbers if 0 < number < first),
        (first, last),
        *((number, number) for number in numbers if number > last),
    ]
    for since, until in spans:
        for batch in sealed_batches(entries, using, since=since, until=until):
            if batch.entries or batch.erasures:
                yield from _batch_texts(batch, using)
    unsealed = list(retained.filter(seal_number=None).order_by("id"))
    yield from _batch_texts(SealedBatch(None, [], unsealed, {}), using)


def _header() -> dict[str, Any]:
    return {"type": "header", "format": FORMAT, "exported_at": canonical_moment(timezone.now())}


def _batch_texts(batch: SealedBatch, using: str) -> Iterator[str]:
    for line in _batch_lines(batch, using):
        yield json.dumps(line, ensure_ascii=False)


class _MissingEntries:
    """Finds the erasures of entries that don't exist, for a complete export."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._ranges = ErasedRanges()

    def erasure_id(self, leaf: Leaf) -> UUID | None:
        """Return the erasure of a leaf's entry; ``None`` if there is none."""
        found = self._ranges.find(leaf.entry_id)
        if found is None and leaf.erasure_id is None:
            # It may have been erased since it was read.
            leaf.refresh_from_db(using=self._using)
            self._ranges = ErasedRanges.load(self._using)
            found = self._ranges.find(leaf.entry_id)
        return leaf.erasure_id or (found.erasure_id if found else None)


def _batch_lines(
    batch: SealedBatch,
    using: str,
    tree: SealTree | None = None,
    missing: _MissingEntries | None = None,
) -> Iterator[dict[str, Any]]:
    nodes = [tree_entry(leaf.entry_id, leaf.hash) for leaf in batch.leaves]
    nodes += [tree_erasure(erasure.pk, erasure.hash) for erasure in batch.erasures]
    levels = tree_levels(nodes) if batch.seal else []
    subjects = retained_subjects(batch.entries.values(), using)
    if batch.seal:
        yield _seal_line(batch.seal, tree)
    for position, leaf in enumerate(batch.leaves):
        entry = batch.entries.get(leaf.entry_id)
        if entry is not None:
            line = _entry_line(entry, leaf, subjects)
            yield {**line, **_proof(batch, levels, position)}
        elif missing is not None:
            yield {**_erased_line(leaf, missing), **_proof(batch, levels, position)}
    for place, erasure in enumerate(batch.erasures, start=len(batch.leaves)):
        yield {**_erasure_line(erasure), **_proof(batch, levels, place)}


def _erased_line(leaf: Leaf, missing: _MissingEntries) -> dict[str, Any]:
    erasure_id = missing.erasure_id(leaf)
    line = {"type": "erased", "id": leaf.entry_id, "leaf": bytes(leaf.hash).hex()}
    return {**line, "erasure": erasure_id and str(erasure_id)}


def _proof(batch: SealedBatch, levels: list[list[bytes]], position: int) -> dict[str, Any]:
    if batch.seal is None:
        return {"seal": None}
    path = [[side, node.hex()] for side, node in inclusion_path(levels, position)]
    return {"seal": batch.seal.number, "position": position, "path": path}


def _seal_line(seal: Seal, tree: SealTree | None) -> dict[str, Any]:
    line = {
        "type": "seal",
        **seal_facts(seal),
        "key_id": seal.key_id,
        "signature": bytes(seal.signature).hex(),
    }
    if tree:
        proof = inclusion_proof(seal.number - 1, tree.size, tree.node_at)
        line["row"] = tree_seal(seal).decode()
        line["proof"] = [node.hex() for node in proof]
    return line


def _entry_line(entry: AuditLog, leaf: Leaf, subjects: dict[str, Any]) -> dict[str, Any]:
    shown = entry_json({name: getattr(entry, name) for name in DETAIL_COLUMNS})
    # In the canonical form that the leaf covers.
    timespec = "milliseconds" if leaf.version == 2 else "microseconds"
    covered = {
        "timestamp": utc_text(entry.timestamp, timespec),
        "ip_address": canonical_address(entry.ip_address),
        "details": json.loads(canonical_json(entry.details)),
    }
    subject = signed_subject(entry, leaf, find_key(leaf.key_id), subjects)
    line = {
        "type": "entry",
        "version": leaf.version or 1,
        "entry": {**shown, **covered},
        "pseudonym": entry.pseudonym,
        "activity_id": entry.activity_id,
        "subject": subject,
        "nonce": bytes(entry.nonce).hex(),
        "leaf": bytes(leaf.hash).hex(),
        "key_id": leaf.key_id,
    }
    if leaf.version == 2:
        line |= {name: getattr(entry, name) or "" for name in OPTIONAL_LENGTHS}
        line["actor_nonce"] = None if entry.actor_nonce is None else bytes(entry.actor_nonce).hex()
        line["row"] = canonical_entry_v2(entry, subject).decode()
    return line


def _erasure_line(erasure: Erasure) -> dict[str, Any]:
    return {
        "type": "erasure",
        **erasure_facts(erasure),
        "nonce": bytes(erasure.nonce).hex(),
        "leaf": bytes(erasure.hash).hex(),
        "key_id": erasure.key_id,
    }
