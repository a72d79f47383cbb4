"""Cosignatures of witnesses, as in C2SP tlog-witness: they prove that there is one history."""

from __future__ import annotations

import base64
import logging

from ..conf import audit_settings
from ..signing.merkle import NodeAt, consistency_proof
from ..signing.notes import (
    InvalidNote,
    Signature,
    VerifierKey,
    add_signatures,
    read_signatures,
    split_note,
)
from .checkpoint_keys import witness_keys
from .http import REQUEST_FAILURES, post
from .models import Checkpoint

logger = logging.getLogger("myometrics.audit.checkpoint")


def collect_cosignatures(checkpoint: Checkpoint, *, old_size: int, node_at: NodeAt) -> None:
    """Add the cosignatures of the configured witnesses to the note, and set ``has_quorum``.

    A witness that can't be reached or refuses is logged; it gets the next checkpoint again.
    ``old_size`` is the size of the checkpoint before, ``node_at`` reads the tree.
    """
    witnesses = witness_keys()
    text, present = split_note(checkpoint.note)
    signed = {key for key in witnesses if any(key.accepts(text, one) for one in present)}
    for key, url in witnesses.items():
        if key in signed:
            continue
        try:
            signature = _ask(key, url, checkpoint, old_size, node_at)
        except REQUEST_FAILURES as error:
            logger.warning("Witness %s has not signed %s: %s", key.name, checkpoint, error)
            continue
        checkpoint.note = add_signatures(checkpoint.note, [signature])
        signed.add(key)
    quorum = audit_settings.WITNESS_QUORUM
    wanted = len(witnesses) if quorum is None else quorum
    checkpoint.has_quorum = bool(witnesses) and len(signed) >= wanted


def _ask(
    key: VerifierKey, url: str, checkpoint: Checkpoint, old_size: int, node_at: NodeAt
) -> Signature:
    status, answer = _submit(url, checkpoint, old_size, node_at)
    if status == 409 and answer.strip().isdigit():
        # The witness has another size than this log's last checkpoint.
        known = int(answer)
        if known > checkpoint.size:
            raise ValueError(f"it has signed {known} seals, more than there are")
        status, answer = _submit(url, checkpoint, known, node_at)
    if status != 200:
        raise ValueError(f"it responded with {status}")
    text, _ = split_note(checkpoint.note)
    for signature in read_signatures(answer):
        if key.accepts(text, signature):
            return signature
    raise InvalidNote("it responded without its signature")


def _submit(url: str, checkpoint: Checkpoint, old_size: int, node_at: NodeAt) -> tuple[int, str]:
    proof = consistency_proof(old_size, checkpoint.size, node_at) if old_size else []
    lines = [f"old {old_size}", *(base64.b64encode(node).decode() for node in proof), ""]
    body = "\n".join(lines) + "\n" + checkpoint.note
    url = f"{url.rstrip('/')}/add-checkpoint"
    status, answer = post(url, body.encode(), "text/plain; charset=utf-8")
    return status, answer.decode(errors="replace")
