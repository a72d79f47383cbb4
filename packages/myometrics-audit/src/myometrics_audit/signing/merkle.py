"""Merkle trees as in RFC 6962, section 2.1, over SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

__all__ = [
    "EMPTY_ROOT",
    "MerkleTree",
    "inclusion_path",
    "leaf_node",
    "path_sides",
    "root_from_path",
    "tree_levels",
]

EMPTY_ROOT = hashlib.sha256(b"").digest()


class MerkleTree:
    """A Merkle tree built from leaves in order; stores at most one node per level."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self.size = 0
        self._peaks: list[tuple[int, bytes]] = []
        for leaf in leaves:
            self.append(leaf)

    def append(self, leaf: bytes) -> None:
        """Append one leaf (its data, not its hash)."""
        height, node = 0, leaf_node(leaf)
        while self._peaks and self._peaks[-1][0] == height:
            node = _inner_node(self._peaks.pop()[1], node)
            height += 1
        self._peaks.append((height, node))
        self.size += 1

    def root(self) -> bytes:
        """Return the root over all leaves so far (32 bytes)."""
        if not self._peaks:
            return EMPTY_ROOT
        node = self._peaks[-1][1]
        for _, peak in reversed(self._peaks[:-1]):
            node = _inner_node(peak, node)
        return node


def inclusion_path(levels: Sequence[Sequence[bytes]], position: int) -> list[tuple[str, bytes]]:
    """Return the siblings from leaf ``position`` to the root: (``"left"`` or ``"right"``, node).

    ``levels`` is the result of :func:`tree_levels`.
    """
    path = []
    for level in levels[:-1]:
        sibling = position ^ 1
        if sibling < len(level):
            path.append(("left" if sibling < position else "right", level[sibling]))
        position //= 2
    return path


def path_sides(position: int, size: int) -> list[str]:
    """Return the sides of the siblings of leaf ``position`` in a tree of ``size`` leaves.

    Raises ``ValueError`` if there is no such leaf.
    """
    if not 0 <= position < size:
        raise ValueError(f"no leaf {position} in a tree of {size}")
    sides = []
    while size > 1:
        if position ^ 1 < size:
            sides.append("left" if position & 1 else "right")
        position, size = position // 2, (size + 1) // 2
    return sides


def tree_levels(leaves: Iterable[bytes]) -> list[list[bytes]]:
    """Return all nodes of the tree by level: the leaf nodes first, the root last."""
    levels = [[leaf_node(leaf) for leaf in leaves]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        above = [_inner_node(a, b) for a, b in zip(below[::2], below[1::2], strict=False)]
        levels.append(above + below[len(below) & ~1 :])
    return levels


def root_from_path(leaf: bytes, path: Iterable[tuple[str, bytes]]) -> bytes:
    """Compute the root from a leaf and its inclusion path."""
    node = leaf_node(leaf)
    for side, sibling in path:
        node = _inner_node(sibling, node) if side == "left" else _inner_node(node, sibling)
    return node


def leaf_node(leaf: bytes) -> bytes:
    """Return the hash of a leaf; its prefix differs from that of inner nodes."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def _inner_node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
