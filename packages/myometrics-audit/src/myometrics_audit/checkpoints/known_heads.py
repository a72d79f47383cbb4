"""Published checkpoints, for the verification of the log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from myometrics_core.db import read_in_batches

from ..sealing.verification.problems import Problem
from ..sealing.verification.seal_checks import KnownHead
from ..signing.notes import InvalidNote, VerifierKey
from .checkpoint_keys import read_own_head, verifier_keys
from .models import Checkpoint
from .publication import CHECKPOINT
from .tile_storage import read_tile


def read_head(path: str) -> KnownHead:
    """Read a checkpoint of this log from a file; raise ``OSError`` or ``ValueError``."""
    return _head(Path(path).read_text(encoding="utf-8"), verifier_keys())


def stored_heads() -> Iterator[KnownHead | Problem]:
    """Yield the head of each checkpoint in the database and of the published one.

    A checkpoint that this log has not signed is a problem instead, and so is a published one that
    was replaced by an older one.
    """
    keys, newest = verifier_keys(), 0
    for checkpoint in read_in_batches(Checkpoint.objects.order_by("size"), size=500):
        try:
            head = _head(checkpoint.note, keys)
            if (head.size, head.root) != (checkpoint.size, bytes(checkpoint.root)):
                raise InvalidNote("its note is about another tree")
            if checkpoint.published_at is not None:
                newest = head.size
            yield head
        except InvalidNote as error:
            yield Problem("checkpoint_forged", f"checkpoint {checkpoint.size}", str(error))
    try:
        head = _head(read_tile(CHECKPOINT).decode(), keys)
    except FileNotFoundError:
        return
    except (InvalidNote, UnicodeDecodeError) as error:
        yield Problem("checkpoint_forged", "published checkpoint", str(error))
        return
    yield head
    # It is published after it is stored, and before it is marked as published.
    if head.size < newest:
        message = f"has {head.size} seals, but {newest} were published"
        yield Problem("checkpoint_outdated", "published checkpoint", message)


def _head(note: str, keys: list[VerifierKey]) -> KnownHead:
    head = read_own_head(note, keys=keys)
    return KnownHead(head.size, head.root)
