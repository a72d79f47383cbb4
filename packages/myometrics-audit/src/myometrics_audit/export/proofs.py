"""JSON Lines that prove themselves to whoever holds the keys.

First a header, then for each seal its line, the chosen entries under it with their inclusion
paths, and its erasures; last what is not sealed yet.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

from django.db import router
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from ..canonical import canonical_moment
from ..entries import entry_json
from ..evidence import (
    entry_leaf,
    erasure_facts,
    seal_facts,
    seal_signature,
    subject_of,
    tree_entry,
    tree_erasure,
)
from ..keys import find_key
from ..merkle import inclusion_path, root_from_path, tree_levels
from ..models import AuditLog, Erasure, Leaf, Seal
from ..rows import COLUMNS
from ..verification.entries import retained_subjects
from .rows import ExportFilter, SealedBatch, batches

__all__ = ["FORMAT", "export_problems", "proof_lines"]

FORMAT = "myometrics-audit/1"


def proof_lines(chosen: ExportFilter, using: str | None = None) -> Iterator[str]:
    """The log as JSON, one text per line, in memory for one seal at a time."""
    alias = using or router.db_for_read(AuditLog)
    header = {"type": "header", "format": FORMAT, "exported_at": canonical_moment(timezone.now())}
    yield json.dumps(header)
    for batch in batches(chosen, alias):
        if batch.entries or batch.erasures:
            for line in _batch_lines(batch, alias):
                yield json.dumps(line, ensure_ascii=False)


def export_problems(lines: Iterable[str]) -> Iterator[str]:
    """What is wrong with an export, as sentences; needs this site's keys, not its database."""
    seals: dict[int, dict[str, Any]] = {}
    for number, text in enumerate(lines, start=1):
        line = json.loads(text)
        if line["type"] == "seal":
            seals = {line["number"]: line}
            problem = _seal_problem(line)
        elif line["type"] == "entry":
            problem = _entry_problem(line, seals)
        else:
            problem = None
        if problem:
            yield f"line {number}: {problem}"


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
    key = find_key(leaf.key_id)
    subject = subjects.get(entry.pseudonym, {}).get(leaf.key_id) if entry.pseudonym else None
    if entry.user_id is not None and key is not None:
        subject = subject_of(entry.user_id, key)
    shown = entry_json({name: getattr(entry, name) for name in COLUMNS})
    return {
        "type": "entry",
        "entry": {**shown, "timestamp": canonical_moment(entry.timestamp)},
        "pseudonym": entry.pseudonym,
        "activity_id": entry.activity_id,
        "subject": subject,
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


def _seal_problem(line: dict[str, Any]) -> str | None:
    key = find_key(line["key_id"])
    if key is None:
        return f"key {line['key_id']} is not in the settings"
    seal = SimpleNamespace(**_from_json(line, "root", "previous", moment="sealed_at"))
    if seal_signature(seal, key).hex() != line["signature"]:
        return f"seal {line['number']} has a wrong signature"
    return None


def _entry_problem(line: dict[str, Any], seals: dict[int, dict[str, Any]]) -> str | None:
    name, key = f"entry {line['entry']['id']}", find_key(line["key_id"])
    if key is None:
        return f"key {line['key_id']} is not in the settings"
    entry = SimpleNamespace(
        **_from_json(line["entry"], moment="timestamp"),
        nonce=bytes.fromhex(line["nonce"]),
        activity_id=line["activity_id"],
    )
    user_id = line["entry"]["user_id"]
    if user_id is not None and subject_of(user_id, key) != line["subject"]:
        return f"{name} names another user than its subject"
    leaf = bytes.fromhex(line["leaf"])
    if not hmac.compare_digest(entry_leaf(entry, line["subject"], key), leaf):
        return f"{name} differs from its leaf"
    return _path_problem(name, line, leaf, seals)


def _path_problem(
    name: str, line: dict[str, Any], leaf: bytes, seals: dict[int, dict[str, Any]]
) -> str | None:
    if line["seal"] is None:
        return None
    seal = seals.get(line["seal"])
    node = tree_entry(line["entry"]["id"], leaf)
    path = [(side, bytes.fromhex(node)) for side, node in line["path"]]
    if seal is None or root_from_path(node, path).hex() != seal["root"]:
        return f"{name} is not under seal {line['seal']}"
    return None


def _from_json(line: dict[str, Any], *binary: str, moment: str) -> dict[str, Any]:
    values = {name: bytes.fromhex(line[name]) for name in binary}
    return {**line, **values, moment: parse_datetime(line[moment])}
