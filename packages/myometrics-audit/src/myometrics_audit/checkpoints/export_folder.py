"""Export into a folder that can be verified with the public keys alone, and its check.

| file | contents |
|---|---|
| ``checkpoint`` | the newest checkpoint |
| ``checkpoint.tsr`` | its RFC 3161 time-stamp, if there is one |
| ``checkpoints.jsonl`` | all checkpoints up to it, each with the proof that it continues the last |
| ``keys`` | the public keys of the log and of its witnesses |
| ``log.jsonl`` | seals, entries and erasures with their proofs |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from django.db.models import QuerySet

from myometrics_core.db import read_in_batches

from ..log.models import AuditLog
from ..sealing.export import export_problems
from ..sealing.export.export_check import UNREADABLE, exact_bytes, exact_moment
from ..sealing.export.proofs import SealTree, proof_lines
from ..signing.merkle import consistency_proof, is_consistent, is_included
from ..signing.notes import TreeHead
from ..signing.signatures import tree_seal
from .checkpoint_keys import read_own_head, verifier_keys, witness_keys
from .models import Checkpoint
from .publication import published_nodes

CHECKPOINT, STAMP, CHECKPOINTS, KEYS, LOG = (
    "checkpoint",
    "checkpoint.tsr",
    "checkpoints.jsonl",
    "keys",
    "log.jsonl",
)


class NothingPublished(Exception):
    """There is no published checkpoint yet."""


def write_folder(
    folder: Path,
    entries: QuerySet[AuditLog] | None = None,
    progress: Callable[[int], object] = lambda written: None,
) -> int:
    """Write ``entries`` (default: all) up to the newest checkpoint; return the number of lines.

    Raises ``NothingPublished``, and ``OSError`` if the folder exists or can't be written.
    """
    published = Checkpoint.objects.filter(published_at__isnull=False)
    newest = published.order_by("-size").first()
    if newest is None:
        raise NothingPublished("There is no published checkpoint yet.")
    folder.mkdir(parents=True)
    (folder / CHECKPOINT).write_text(newest.note, encoding="utf-8")
    if newest.timestamp is not None:
        (folder / STAMP).write_bytes(bytes(newest.timestamp))
    keys = [*verifier_keys(), *witness_keys()]
    (folder / KEYS).write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
    node_at = published_nodes(newest.size)
    with (folder / CHECKPOINTS).open("w", encoding="utf-8") as file:
        old_size = 0
        until = published.filter(size__lte=newest.size).order_by("size")
        for checkpoint in read_in_batches(until, size=500):
            size = checkpoint.size
            proof = consistency_proof(old_size, size, node_at) if old_size else []
            hashes = [node.hex() for node in proof]
            file.write(json.dumps({"note": checkpoint.note, "proof": hashes}) + "\n")
            old_size = size
    written = 0
    with (folder / LOG).open("w", encoding="utf-8") as file:
        for written, line in enumerate(
            proof_lines(entries, tree=SealTree(newest.size, node_at)), start=1
        ):
            file.write(line + "\n")
            progress(written)
    return written


def folder_problems(folder: Path) -> Iterator[str]:
    """Yield the problems of an exported folder as text; needs this site's keys.

    Raises ``ValueError`` or ``OSError`` if it can't be read.
    """
    read_head = partial(read_own_head, keys=verifier_keys(), witnesses=list(witness_keys()))
    head = read_head((folder / CHECKPOINT).read_text(encoding="utf-8"))
    with (folder / CHECKPOINTS).open(encoding="utf-8") as lines:
        for problem in _checkpoint_problems(lines, head, read_head):
            yield f"{CHECKPOINTS}: {problem}"
    with (folder / LOG).open(encoding="utf-8") as lines:
        for problem in export_problems(lines):
            yield f"{LOG}, {problem}"
    with (folder / LOG).open(encoding="utf-8") as lines:
        for problem in _tree_problems(lines, head):
            yield f"{LOG}, {problem}"


def is_complete(folder: Path) -> bool:
    """Return whether a folder without problems has every entry up to its checkpoint."""
    with (folder / LOG).open(encoding="utf-8") as lines:
        return _says_complete(json.loads(next(lines)))


def _says_complete(header: dict[str, Any]) -> bool:
    return header["complete"] is not False


def _checkpoint_problems(
    lines: Iterable[str], newest: TreeHead, read_head: Callable[[str], TreeHead]
) -> Iterator[str]:
    last: TreeHead | None = None
    for number, text in enumerate(lines, start=1):
        try:
            line = json.loads(text)
            head = read_head(line["note"])
            proof = [exact_bytes(node) for node in line["proof"]]
        except UNREADABLE as error:
            yield f"line {number}: can't be read ({error})"
            continue
        is_continued = (
            last.size < head.size
            and is_consistent(last.size, last.root, head.size, head.root, proof)
            if last
            else not proof
        )
        if not is_continued:
            yield f"line {number}: the checkpoint does not continue the one before"
        last = head
    if last != newest:
        yield "the last line is not the newest checkpoint"


def _tree_problems(lines: Iterable[str], head: TreeHead) -> Iterator[str]:
    """Check the seals against the checkpoint, and that a complete export has every position."""
    must_be_complete, expected, place, total = False, 1, 0, 0
    for number, text in enumerate(lines, start=1):
        try:
            line = json.loads(text)
            if number == 1:
                must_be_complete = _says_complete(line)
            elif line["type"] == "seal":
                if must_be_complete and (line["number"] != expected or place != total):
                    yield f"line {number}: something is missing before it"
                expected, place = line["number"] + 1, 0
                total = line["entries"] + line["erasures"]
                if not _is_in_tree(line, head):
                    yield f"line {number}: the seal is not in the tree of the checkpoint"
            elif line["seal"] is None:
                yield from _unsealed_problems(number, line)
            else:
                if must_be_complete and line["position"] != place:
                    yield f"line {number}: something is missing before it"
                place += 1
        except UNREADABLE as error:
            yield f"line {number}: can't be read ({error})"
    if must_be_complete and (expected != head.size + 1 or place != total):
        yield "something is missing at the end"


def _unsealed_problems(number: int, line: dict[str, Any]) -> Iterator[str]:
    """Only erasures that are newer than the checkpoint are not sealed."""
    if line["type"] != "erasure":
        yield f"line {number}: it is not sealed"


def _is_in_tree(line: dict[str, Any], head: TreeHead) -> bool:
    facts = {name: exact_bytes(line[name]) for name in ("root", "previous")}
    seal = SimpleNamespace(**{**line, **facts, "sealed_at": exact_moment(line, "sealed_at")})
    row = tree_seal(seal)
    proof = [exact_bytes(node) for node in line["proof"]]
    position = line["number"] - 1
    return row.decode() == line["row"] and is_included(row, position, head.size, proof, head.root)
