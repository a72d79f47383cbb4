"""Verification of seals: the leaves and erasures that they cover, and their chain."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from django.db.models import Count, Exists, Max, OuterRef

from myometrics_core.db import read_in_batches

from ...log.models import Erasure, Leaf, Seal
from ...signing.keys import FindKey
from ...signing.merkle import MerkleTree
from ...signing.signatures import GENESIS, seal_signature, tree_erasure, tree_seal
from .problems import Problem

CHUNK = 500


class SealChecker:
    """Receive sealed leaves in order, and check each seal once its leaves are complete.

    Checks the seals after ``after``, which must exist unless it is 0, up to ``until``.
    """

    def __init__(self, using: str, find_key: FindKey, *, after: int = 0, until: int) -> None:
        self.seals = 0
        self.newest = Seal.objects.using(using).filter(number=after).first() if after else None
        self._find_key = find_key
        self._stored = _stored_seals(using, after, until)
        self._next = next(self._stored, None)
        self._erasures = _Erasures(using, after, until)
        self._tree = MerkleTree()
        self._number: int | None = None

    def add(self, number: int, leaf: bytes) -> Iterator[Problem]:
        """Add the tree data of one leaf of seal ``number``; yield the problems of earlier seals."""
        if number != self._number:
            yield from self._complete(number)
            self._number, self._tree = number, MerkleTree()
        self._tree.append(leaf)

    def finish(self) -> Iterator[Problem]:
        """Yield the problems of the remaining seals."""
        yield from self._complete(None)
        yield from self._erasures.left_over()

    def _complete(self, until: int | None) -> Iterator[Problem]:
        """Check every stored seal with a number below ``until``, with the collected leaves."""
        while self._next is not None and (until is None or self._next.number < until):
            yield from self._check(self._next)
            self._next = next(self._stored, None)
        yield from self._missing_seal()

    def _missing_seal(self) -> Iterator[Problem]:
        """Report the seal of the collected leaves, unless they were checked with it."""
        if self._number is not None:
            message = f"{self._tree.size} leaves refer to this seal, which is missing"
            yield Problem("seal_missing", f"seal {self._number}", message)
            self._number = None

    def _check(self, seal: Seal) -> Iterator[Problem]:
        tree = MerkleTree()
        if self._number == seal.number:
            tree, self._number = self._tree, None
        elif self._number is not None and self._number < seal.number:
            yield from self._missing_seal()
        yield from self._chain_problems(seal)
        key = self._find_key(seal.key_id)
        if key and not hmac.compare_digest(seal_signature(seal, key), bytes(seal.signature)):
            yield Problem("seal_forged", f"seal {seal.number}", "has a wrong signature")
        yield from self._root_problems(seal, tree)
        self.seals += 1
        self.newest = seal

    def _chain_problems(self, seal: Seal) -> Iterator[Problem]:
        before = self.newest.number if self.newest else 0
        if seal.number != before + 1:
            missing = f"seals {before + 1} to {seal.number - 1}"
            yield Problem("seal_missing", missing, "are missing")
        elif bytes(seal.previous) != (bytes(self.newest.signature) if self.newest else GENESIS):
            message = "does not follow from the seal before it"
            yield Problem("seal_reordered", f"seal {seal.number}", message)

    def _root_problems(self, seal: Seal, tree: MerkleTree) -> Iterator[Problem]:
        entries, erasures = tree.size, self._erasures.of(seal.number)
        for erasure in erasures:
            tree.append(erasure)
        name = f"seal {seal.number}"
        if entries != seal.entries:
            message = f"covers {seal.entries} leaves of entries, but {entries} exist"
            yield Problem("seal_broken", name, message)
        if len(erasures) != seal.erasures:
            message = f"covers {seal.erasures} erasures, but {len(erasures)} exist"
            yield Problem("seal_broken", name, message)
        if tree.root() != bytes(seal.root):
            message = "its leaves or erasures were changed, removed, added or reordered"
            yield Problem("seal_broken", name, message)


def newest_seal_number(using: str) -> int:
    """Return the number of the newest seal; 0 if there is none."""
    return Seal.objects.using(using).aggregate(n=Max("number"))["n"] or 0


def _stored_seals(using: str, after: int, until: int) -> Iterator[Seal]:
    seals = Seal.objects.using(using).filter(number__lte=until)
    if after:
        seals = seals.filter(number__gt=after)
    return read_in_batches(seals.order_by("number"), size=CHUNK)


def unknown_seal_problems(using: str, last_number: int) -> Iterator[Problem]:
    """Report leaves and erasures that refer to a seal after ``last_number`` that doesn't exist."""
    for model in (Leaf, Erasure):
        known = Seal.objects.using(using).filter(number=OuterRef("seal_number"))
        rows = model.objects.using(using).filter(seal_number__gt=last_number)
        strays = rows.filter(~Exists(known)).order_by().values_list("seal_number")
        for number, count in strays.annotate(count=Count("pk")):
            message = (
                f"{count} rows of {model._meta.model_name} refer to this seal, which is missing"
            )
            yield Problem("seal_missing", f"seal {number}", message)


class _Erasures:
    """The leaves of sealed erasures, grouped by seal."""

    def __init__(self, using: str, after: int, until: int) -> None:
        sealed = Erasure.objects.using(using).filter(seal_number__lte=until)
        if after:
            sealed = sealed.filter(seal_number__gt=after)
        ordered = sealed.order_by("seal_number", "id").only("seal_number", "id", "hash")
        self._stored = read_in_batches(ordered)
        self._next = next(self._stored, None)
        self._stray: list[Erasure] = []

    def of(self, number: int) -> list[bytes]:
        """Return the leaves of the erasures under a seal; call it with increasing numbers."""
        leaves = []
        while self._next is not None and (self._next.seal_number or 0) <= number:
            if self._next.seal_number == number:
                leaves.append(tree_erasure(self._next.id, self._next.hash))
            else:
                self._stray.append(self._next)
            self._next = next(self._stored, None)
        return leaves

    def left_over(self) -> Iterator[Problem]:
        """Report erasures that refer to a missing seal."""
        remaining = [self._next, *self._stored] if self._next else []
        for erasure in (*self._stray, *remaining):
            message = f"refers to seal {erasure.seal_number}, which is missing"
            yield Problem("seal_missing", f"erasure {erasure.id}", message)


@dataclass(frozen=True)
class KnownHead:
    """A published head of the tree of seals: the first ``size`` seals have this root."""

    size: int
    root: bytes


def head_problems(heads: Iterable[KnownHead], using: str) -> Iterator[Problem]:
    """Report published heads of the tree of seals that the stored seals don't have."""
    tree = MerkleTree()
    stored = read_in_batches(Seal.objects.using(using).order_by("number"), size=CHUNK)
    for head in sorted(heads, key=lambda head: head.size):
        for seal in islice(stored, head.size - tree.size):
            tree.append(tree_seal(seal))
        if tree.size < head.size:
            message = f"covers {head.size} seals, but {tree.size} exist"
        elif tree.root() != head.root:
            message = "its seals were changed, removed, added or reordered"
        else:
            continue
        yield Problem("checkpoint_broken", f"checkpoint {head.size}", message)


def read_anchors(path: str) -> Iterator[dict[str, Any]]:
    """Yield the anchors in a JSON Lines file; raise ``ValueError`` for an invalid line.

    A line that a full disk has cut off is skipped, if it is the last one or written again after it.
    """
    cut_off: list[tuple[str, ValueError]] = []
    with Path(path).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                anchor = json.loads(line)
                found = {"number": int(anchor["number"]), "signature": str(anchor["signature"])}
            except (ValueError, KeyError, TypeError) as error:
                cut_off.append(
                    (line, ValueError(f"{path}, line {number}, is not an anchor: {error}"))
                )
                continue
            for text, problem in cut_off:
                if not line.startswith(text.rstrip("\n")):
                    raise problem
            cut_off = []
            yield found
    for text, problem in cut_off:
        if text.endswith("\n"):
            raise problem


def anchor_problems(anchors: Iterable[dict[str, Any]], using: str) -> Iterator[Problem]:
    """Report anchors whose seal is missing or differs from the published one."""
    for anchor in anchors:
        seal = Seal.objects.using(using).filter(number=anchor["number"]).first()
        if seal is None or bytes(seal.signature).hex() != anchor["signature"]:
            state = "is missing" if seal is None else "differs from the published one"
            message = f"{state} (was an old backup restored?)"
            yield Problem("anchor_broken", f"seal {anchor['number']}", message)
