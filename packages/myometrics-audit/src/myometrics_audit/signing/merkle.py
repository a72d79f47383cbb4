"""Merkle trees as in RFC 6962, section 2.1, over SHA-256.

Proofs of trees of any size read the nodes that they need: a ``NodeAt`` returns the root of a
complete subtree by its height and its index among those of that height.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()

NodeAt = Callable[[int, int], bytes]
"""``node_at(height, index)``: root over the leaves ``index * 2**height`` to the next multiple."""


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
        return fold_peaks([peak for _, peak in self._peaks])


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


def fold_peaks(peaks: Sequence[bytes]) -> bytes:
    """Return the root of a tree from its complete subtrees, from left to right."""
    if not peaks:
        return EMPTY_ROOT
    node = peaks[-1]
    for peak in reversed(peaks[:-1]):
        node = _inner_node(peak, node)
    return node


def range_root(start: int, end: int, node_at: NodeAt) -> bytes:
    """Return the root over the leaves ``start`` to ``end - 1``; ``start`` must be aligned."""
    size = end - start
    height = size.bit_length() - 1
    if size == 1 << height and start % size == 0:
        return node_at(height, start >> height)
    middle = start + _split(size)
    return _inner_node(range_root(start, middle, node_at), range_root(middle, end, node_at))


def inclusion_proof(position: int, size: int, node_at: NodeAt) -> list[bytes]:
    """Return the siblings from leaf ``position`` to the root of a tree of ``size`` leaves.

    Raises ``ValueError`` if there is no such leaf.
    """
    if not 0 <= position < size:
        raise ValueError(f"no leaf {position} in a tree of {size}")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if position < middle:
            proof.append(range_root(middle, end, node_at))
            end = middle
        else:
            proof.append(range_root(start, middle, node_at))
            start = middle
    return proof[::-1]


def is_included(leaf: bytes, position: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether ``proof`` shows that ``leaf`` (its data) is at ``position``."""
    if not 0 <= position < size:
        return False
    sides = path_sides(position, size)
    if len(sides) != len(proof):
        return False
    return root_from_path(leaf, zip(sides, proof, strict=True)) == root


def consistency_proof(old_size: int, size: int, node_at: NodeAt) -> list[bytes]:
    """Return the proof that a tree of ``size`` leaves begins with the one of ``old_size``.

    Raises ``ValueError`` unless ``0 < old_size <= size``.
    """
    if not 0 < old_size <= size:
        raise ValueError(f"no consistency proof from {old_size} to {size}")
    proof: list[bytes] = []
    start, end = 0, size
    while old_size < end:
        middle = start + _split(end - start)
        if old_size <= middle:
            proof.append(range_root(middle, end, node_at))
            end = middle
        else:
            proof.append(range_root(start, middle, node_at))
            start = middle
    if start > 0:
        proof.append(range_root(start, end, node_at))
    return proof[::-1]


def is_consistent(
    old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Return whether ``proof`` shows that the tree begins with the old one (RFC 9162, 2.1.4.2)."""
    if not 0 < old_size <= size:
        return False
    if old_size == size:
        return not proof and old_root == root
    nodes = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not nodes:
        return False
    first, last = old_size - 1, size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old_node = node = nodes[0]
    for sibling in nodes[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            old_node, node = _inner_node(sibling, old_node), _inner_node(sibling, node)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            node = _inner_node(node, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and old_node == old_root and node == root


def leaf_node(leaf: bytes) -> bytes:
    """Return the hash of a leaf; its prefix differs from that of inner nodes."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def _split(size: int) -> int:
    """Return the largest power of two below ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def _inner_node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
