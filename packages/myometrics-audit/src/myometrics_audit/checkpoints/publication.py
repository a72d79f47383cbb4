"""Publication of the tree of seals: its tiles, then a signed checkpoint.

Each step can be repeated after a crash: tiles have the same content, and the checkpoint of a size
is inserted, and so signed, once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice

from django.db import IntegrityError, router, transaction
from django.db.models import Max
from django.utils import timezone

from myometrics_core.db import read_in_batches

from ..log.models import Seal
from ..signing.merkle import NodeAt, leaf_node
from ..signing.notes import InvalidNote, TreeHead, add_signatures, split_note, verified_by
from ..signing.signatures import tree_seal
from ..signing.tiles import (
    TILE_WIDTH,
    Tile,
    TreeEdge,
    bundle_path,
    entry_bundle,
    node_reader,
    partial_width,
    tile_path,
)
from .checkpoint_keys import origin, read_own_head, signing_key, verifier_keys
from .models import Checkpoint
from .tile_storage import delete_partial_tiles, read_tile, write_tile
from .timestamps import request_timestamp
from .witnesses import collect_cosignatures

logger = logging.getLogger("myometrics.audit.checkpoint")

CHECKPOINT = "checkpoint"
"""The path of the newest checkpoint."""


class PublicationFailed(Exception):
    """The tree can't be published, because it differs from what was published before."""


def checkpoint_publish() -> Checkpoint | None:
    """Publish the tree of all seals; return the new checkpoint, ``None`` if it is published.

    Raises ``PublicationFailed`` if the seals are not those that were published.
    """
    using = router.db_for_write(Checkpoint)
    newest = Checkpoint.objects.using(using).order_by("-size").first()
    published = _check_published(using)
    if published is not None and newest is not None and newest.size > published.size:
        _check_continued(published, newest, using)
    if newest is None or newest.published_at is not None:
        if newest is not None:
            _check_signed(newest)
        newest = _checkpoint_create(newest, using)
        if newest is None:
            return None
    head = _read_signed(newest)
    if head.origin != origin():
        # Of a restored backup, and not published under the new name of the log.
        newest.note = _signed_note(head.size, head.root)
    previous = Checkpoint.objects.using(using).filter(size__lt=newest.size).order_by("-size")
    collect_cosignatures(
        newest,
        old_size=previous.values_list("size", flat=True).first() or 0,
        node_at=published_nodes(newest.size),
    )
    request_timestamp(newest)
    write_tile(CHECKPOINT, newest.note.encode())
    newest.published_at = timezone.now()
    newest.save(using=using)
    logger.info("Published %s", newest, extra={"size": newest.size, "quorum": newest.has_quorum})
    return newest


def published_nodes(size: int) -> NodeAt:
    """Return the nodes of the published tree of this size; partial tiles may be gone."""

    def read(path: str) -> bytes:
        try:
            return read_tile(path)
        except FileNotFoundError:
            full, _, width = path.rpartition(".p/")
            return read_tile(full)[: int(width) * 32]

    return node_reader(size, read)


def _checkpoint_create(last: Checkpoint | None, using: str) -> Checkpoint | None:
    size = Seal.objects.using(using).aggregate(n=Max("number"))["n"] or 0
    known = last.size if last else 0
    if size < known:
        raise PublicationFailed(f"The newest checkpoint covers {known} seals, but {size} exist.")
    if size == known:
        return None
    edge, start = _edge_at(last), known
    if edge is None:
        edge, start = TreeEdge(), 0
    full = list(_append_seals(edge, size, last, using))
    for tile in [*full, *edge.partial_tiles()]:
        write_tile(tile.path, tile.content)
    _write_bundles(start, size, using)
    root = edge.root()
    checkpoint = Checkpoint(size=size, root=root, note=_signed_note(size, root))
    try:
        with transaction.atomic(using=using):
            checkpoint.save(force_insert=True, using=using)
    except IntegrityError:
        # Another worker has inserted it.
        return Checkpoint.objects.using(using).get(size=size)
    _delete_partials(full)
    return checkpoint


def _signed_note(size: int, root: bytes) -> str:
    head = TreeHead(origin(), size, root)
    return add_signatures(head.text + "\n", [signing_key().sign(head.text)])


def _read_signed(checkpoint: Checkpoint) -> TreeHead:
    """Return the head of a checkpoint of the database; refuse one that is not of this log."""
    try:
        head = read_own_head(checkpoint.note, keys=verifier_keys())
    except InvalidNote as error:
        raise PublicationFailed(f"{checkpoint} was not made by this log: {error}") from error
    if (head.size, head.root) != (checkpoint.size, bytes(checkpoint.root)):
        raise PublicationFailed(f"{checkpoint} has a note about another tree.")
    return head


def _check_signed(checkpoint: Checkpoint) -> None:
    """Refuse to continue a tree that this log has not signed, under its name or an earlier one."""
    head = _signed_head(checkpoint.note)
    if head is None or (head.size, head.root) != (checkpoint.size, bytes(checkpoint.root)):
        raise PublicationFailed(
            f"The {checkpoint} in the database is not one that this log has signed: was the "
            "database changed, or is a key missing in CHECKPOINT_OLD_KEYS?"
        )


def _signed_head(note: str) -> TreeHead | None:
    """Return the head of a checkpoint, under any name; ``None`` if this log has not signed it."""
    try:
        return TreeHead.parse(split_note(note)[0]) if verified_by(note, verifier_keys()) else None
    except InvalidNote:
        return None


def _check_published(using: str) -> TreeHead | None:
    """Return what is published; refuse a second history, as after the restore of an old backup."""
    try:
        head = _signed_head(read_tile(CHECKPOINT).decode())
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        head = None
    if head is None or head.origin != origin():
        raise PublicationFailed("The storage has the checkpoint of another log or key.")
    # Read after the file: each checkpoint is in the database before it is published.
    stored = Checkpoint.objects.using(using)
    known = stored.aggregate(n=Max("size"))["n"] or 0
    if head.size > known:
        raise PublicationFailed(
            f"The published checkpoint has {head.size} seals, the database {known}: was an old "
            "backup restored?"
        )
    root = stored.filter(size=head.size).values_list("root", flat=True).first()
    if root is None or bytes(root) != head.root:
        raise PublicationFailed(
            f"The published checkpoint of {head.size} seals is not the one in the database: was "
            "the database changed, or another one restored?"
        )
    return head


def _check_continued(published: TreeHead, newest: Checkpoint, using: str) -> None:
    """Refuse a checkpoint of another history, which an old key or an earlier name has signed."""
    edge = TreeEdge()
    for _ in _append_seals(edge, newest.size, published, using):
        pass
    if edge.root() != bytes(newest.root):
        raise PublicationFailed(
            f"The {newest} in the database is not that of its seals: was the database changed?"
        )


def _edge_at(last: Checkpoint | None) -> TreeEdge | None:
    """Return the edge of the published tree from its tiles; ``None`` if they are unusable."""
    if last is None:
        return None
    edge, level = TreeEdge(last.size), 0
    try:
        while last.size >> 8 * level:
            width = partial_width(last.size, level)
            path = tile_path(level, last.size >> 8 * (level + 1), width)
            content = read_tile(path) if width else b""
            edge.levels.append([content[at : at + 32] for at in range(0, len(content), 32)])
            level += 1
    except FileNotFoundError:
        logger.warning("Tiles are missing, and are written again from the seals")
        return None
    return edge if edge.root() == bytes(last.root) else None


def _append_seals(
    edge: TreeEdge, size: int, last: Checkpoint | TreeHead | None, using: str
) -> Iterator[Tile]:
    seals = Seal.objects.using(using).filter(number__gt=edge.size, number__lte=size)
    for seal in read_in_batches(seals.order_by("number"), size=1000):
        if seal.number != edge.size + 1:
            raise PublicationFailed(f"Seal {edge.size + 1} is missing.")
        yield from edge.append([leaf_node(tree_seal(seal))])
        if last and edge.size == last.size and edge.root() != bytes(last.root):
            raise PublicationFailed(
                f"The seals up to {last.size} differ from the published checkpoint."
            )


def _write_bundles(start: int, size: int, using: str) -> None:
    """Write the bundles of entries that contain the seals after ``start``."""
    first = start // TILE_WIDTH
    seals = Seal.objects.using(using).filter(number__gt=first * TILE_WIDTH, number__lte=size)
    entries = (tree_seal(seal) for seal in read_in_batches(seals.order_by("number"), size=1000))
    index = first
    while chunk := list(islice(entries, TILE_WIDTH)):
        write_tile(bundle_path(index, len(chunk)), entry_bundle(chunk))
        if len(chunk) == TILE_WIDTH:
            delete_partial_tiles(bundle_path(index))
        index += 1


def _delete_partials(tiles: list[Tile]) -> None:
    for tile in tiles:
        delete_partial_tiles(tile.path)
