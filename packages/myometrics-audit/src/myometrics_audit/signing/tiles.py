"""Tiles of a Merkle tree as in C2SP tlog-tiles: 256 nodes each, eight levels apart.

The tile ``(level, index)`` contains the roots over 256**level leaves each. A tile with fewer than
256 nodes is partial; its path names its width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .merkle import NodeAt, fold_peaks

TILE_WIDTH = 256
HASH_BYTES = 32


@dataclass(frozen=True)
class Tile:
    """A tile that is complete up to ``len(nodes)``."""

    level: int
    index: int
    nodes: Sequence[bytes]

    @property
    def path(self) -> str:
        return tile_path(self.level, self.index, len(self.nodes))

    @property
    def content(self) -> bytes:
        return b"".join(self.nodes)


@dataclass
class TreeEdge:
    """The right edge of a tree: the nodes of the partial tile of each level, lowest first.

    ``size`` is the number of leaves.
    """

    size: int = 0
    levels: list[list[bytes]] = field(default_factory=list)

    def append(self, leaves: Iterable[bytes]) -> Iterator[Tile]:
        """Append hashes of leaves; yield each tile that becomes full."""
        for leaf in leaves:
            self.size += 1
            yield from self._add(0, leaf)

    def _add(self, level: int, node: bytes) -> Iterator[Tile]:
        if level == len(self.levels):
            self.levels.append([])
        nodes = self.levels[level]
        nodes.append(node)
        if len(nodes) == TILE_WIDTH:
            index = (self.size >> 8 * (level + 1)) - 1
            yield Tile(level, index, tuple(nodes))
            root = _tile_root(nodes, 8, 0)
            nodes.clear()
            yield from self._add(level + 1, root)

    def partial_tiles(self) -> Iterator[Tile]:
        """Yield the partial tiles of the tree as it is now."""
        for level, nodes in enumerate(self.levels):
            if nodes:
                yield Tile(level, self.size >> 8 * (level + 1), tuple(nodes))

    def root(self) -> bytes:
        peaks = []
        for nodes in reversed(self.levels):
            start = 0
            for height in reversed(range(8)):
                if len(nodes) & 1 << height:
                    peaks.append(_tile_root(nodes, height, start >> height))
                    start += 1 << height
        return fold_peaks(peaks)


def node_reader(size: int, read: Callable[[str], bytes]) -> NodeAt:
    """Return the nodes of a tree of ``size`` leaves, from its tiles.

    ``read`` returns the content of a tile by its path. Raises ``ValueError`` for a tile with
    another length than expected.
    """
    tiles: dict[tuple[int, int], list[bytes]] = {}

    def tile_nodes(level: int, index: int) -> list[bytes]:
        if (level, index) not in tiles:
            width = min(TILE_WIDTH, (size >> 8 * level) - index * TILE_WIDTH)
            path = tile_path(level, index, width)
            content = read(path)
            if len(content) != width * HASH_BYTES:
                raise ValueError(f"{path} has {len(content)} bytes, not {width * HASH_BYTES}")
            tiles[level, index] = [
                content[start : start + HASH_BYTES] for start in range(0, len(content), HASH_BYTES)
            ]
        return tiles[level, index]

    def node_at(height: int, index: int) -> bytes:
        level, inside = divmod(height, 8)
        first = index << inside  # of the nodes of this level
        nodes = tile_nodes(level, first // TILE_WIDTH)
        return _tile_root(nodes, inside, first % TILE_WIDTH >> inside)

    return node_at


def partial_width(size: int, level: int) -> int:
    """Return the number of nodes in the partial tile of a level; 0 if there is none."""
    return (size >> 8 * level) % TILE_WIDTH


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of a tile of hashes."""
    return f"tile/{level}/{_index_path(index, width)}"


def bundle_path(index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of a bundle of entries."""
    return f"tile/entries/{_index_path(index, width)}"


def _index_path(index: int, width: int) -> str:
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    *groups, last = (digits[start : start + 3] for start in range(0, len(digits), 3))
    path = "".join(f"x{group}/" for group in groups) + last
    return path if width == TILE_WIDTH else f"{path}.p/{width}"


def entry_bundle(entries: Iterable[bytes]) -> bytes:
    """Return a bundle of entries, each after its length in two bytes."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def split_bundle(bundle: bytes) -> list[bytes]:
    """Return the entries of a bundle; raise ``ValueError`` if it is cut off."""
    entries, place = [], 0
    while place < len(bundle):
        start = place + 2
        place = start + int.from_bytes(bundle[place:start], "big")
        if start > len(bundle) or place > len(bundle):
            raise ValueError("the bundle is cut off")
        entries.append(bundle[start:place])
    return entries


def _tile_root(nodes: Sequence[bytes], height: int, index: int) -> bytes:
    """Return the node ``height`` levels above the nodes of a tile."""
    level = nodes[index << height : (index + 1) << height]
    while len(level) > 1:
        level = [fold_peaks(level[at : at + 2]) for at in range(0, len(level), 2)]
    return level[0]
