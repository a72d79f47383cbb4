"""Leaf hashes and signatures: pure functions from facts to bytes.

An entry's leaf covers its nonce and its canonical row. The nonce is stored only in the row and
deleted with it, so the leaf of an erased row reveals nothing about the row. Version 1 is an HMAC.
Version 2 is a SHA-256 hash, which everyone can verify; its nonce includes a tag that only the
holder of the key can compute, so rows inserted without the key are detected.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol
from uuid import UUID

from myometrics_core.http import canonical_address
from myometrics_core.times import utc_text

from .canonical import canonical_json, canonical_moment
from .keys import Key

ENTRY_VERSION = 2
"""The version of new entries' canonical row and leaf."""

ACTOR_NONCE_BYTES = 16

GENESIS = bytes(32)
"""The ``previous`` signature of the first seal."""


class EntryFacts(Protocol):
    """The columns of an entry that its leaf covers, except the user: the subject replaces it.

    Version 1 covers the columns up to ``activity_id``.
    """

    nonce: bytes | memoryview
    action: str
    resource_type: str
    resource_id: str
    timestamp: datetime
    ip_address: str | None
    user_agent: str
    details: Mapping[str, Any]
    activity_id: str | None
    origin: str | None
    data_subject: str | None
    purpose: str | None
    legal_basis: str | None


class ErasureFacts(Protocol):
    """The columns of an erasure that its leaf covers."""

    id: Any
    nonce: bytes | memoryview
    reason: str
    erased_at: datetime
    entries: int
    digest: bytes | memoryview
    pseudonym: str | None
    details: Mapping[str, Any]


class SealFacts(Protocol):
    """The columns of a seal that its signature covers."""

    number: int
    root: bytes | memoryview
    entries: int
    erasures: int
    sealed_at: datetime
    previous: bytes | memoryview


def new_nonce() -> bytes:
    """Return 16 random bytes."""
    return secrets.token_bytes(16)


def subject_of(user_id: Any, key: Key) -> str | None:
    """Return the keyed hash of a user id: 32 hex digits, which only the key links to the id."""
    if user_id is None:
        return None
    return hmac.digest(key.subject, str(user_id).encode(), hashlib.sha256)[:16].hex()


@lru_cache(maxsize=1024)
def actor_nonce(user_id: Any, key: Key) -> bytes:
    """Return the nonce of a user's commitment (16 bytes), which only the key can compute.

    All entries of a user under a key have the same one, so that an erasure can prove which
    pseudonym replaced the user (``ON_USER_DELETE = "retain"``).
    """
    digest = hmac.digest(key.subject, b"actor/" + str(user_id).encode(), hashlib.sha256)
    return digest[:ACTOR_NONCE_BYTES]


def actor_commitment(user_id: Any, nonce: bytes | memoryview) -> bytes:
    """Return the commitment to a user id that version 2 covers: SHA-256(nonce, user id)."""
    return hashlib.sha256(bytes(nonce) + str(user_id).encode()).digest()


def is_committed(user_id: Any, nonce: bytes | memoryview, actor: str | None) -> bool:
    """Return whether ``actor`` (hex digits) is the commitment to a user.

    Without a fixed length, the first digits of the user id could be moved to the nonce.
    """
    return len(nonce) == ACTOR_NONCE_BYTES and actor_commitment(user_id, nonce).hex() == actor


def canonical_entry(entry: EntryFacts, subject: str | None) -> bytes:
    """Return the bytes of an entry that a leaf of version 1 covers."""
    return canonical_json(
        {
            "subject": subject,
            **_common_values(entry),
            "timestamp": canonical_moment(entry.timestamp),
        }
    )


def canonical_entry_v2(entry: EntryFacts, actor: str | None) -> bytes:
    """Return the bytes of an entry that a leaf of version 2 covers.

    ``actor`` is the commitment to the user (hex digits), ``None`` for anonymous actions.
    """
    return canonical_json(
        {
            "version": 2,
            "actor": actor,
            **_common_values(entry),
            "timestamp": utc_text(entry.timestamp, "milliseconds"),
            "origin": entry.origin,
            "data_subject": entry.data_subject or "",
            "purpose": entry.purpose or "",
            "legal_basis": entry.legal_basis or "",
        }
    )


def _common_values(entry: EntryFacts) -> dict[str, Any]:
    return {
        "action": entry.action,
        "resource_type": entry.resource_type,
        "resource_id": entry.resource_id,
        "ip_address": canonical_address(entry.ip_address),
        "user_agent": entry.user_agent,
        "details": entry.details,
        "activity_id": entry.activity_id,
    }


def entry_leaf(entry: EntryFacts, subject: str | None, key: Key) -> bytes:
    """Return the leaf of an entry of version 1 (32 bytes)."""
    message = bytes(entry.nonce) + canonical_entry(entry, subject)
    return hmac.digest(key.entry, message, hashlib.sha256)


def entry_leaf_v2(nonce: bytes | memoryview, row: bytes) -> bytes:
    """Return the leaf of an entry of version 2 (32 bytes) from its nonce and canonical row."""
    return hashlib.sha256(b"\x00" + bytes(nonce) + row).digest()


def entry_nonce(row: bytes, key: Key) -> bytes:
    """Return a nonce for an entry of version 2: 16 random bytes, and a tag of 16 bytes."""
    random = new_nonce()
    return random + _tag(random, row, key)


def is_tagged(nonce: bytes | memoryview, row: bytes, key: Key) -> bool:
    """Return whether a nonce of version 2 was made for this row by a holder of the key."""
    random, tag = bytes(nonce)[:16], bytes(nonce)[16:]
    return hmac.compare_digest(_tag(random, row, key), tag)


def _tag(random: bytes, row: bytes, key: Key) -> bytes:
    return hmac.digest(key.entry, b"nonce/" + random + row, hashlib.sha256)[:16]


def tree_entry(entry_id: int, leaf: bytes | memoryview) -> bytes:
    """Return an entry's data in a seal's tree: id and leaf, so that the seal covers the id."""
    return entry_id.to_bytes(8, "big", signed=True) + bytes(leaf)


def tree_erasure(erasure_id: UUID, leaf: bytes | memoryview) -> bytes:
    """Return an erasure's data in a seal's tree: id and leaf."""
    return erasure_id.bytes + bytes(leaf)


def tree_seal(seal: SealFacts) -> bytes:
    """Return a seal's data in the tree of seals."""
    return canonical_json(seal_facts(seal))


def erasure_digest(leaves: Iterable[tuple[int, bytes | memoryview]]) -> tuple[int, bytes]:
    """Return the number of leaves (entry id, leaf; ordered by id) and the digest over them."""
    count, digest = 0, hashlib.sha256()
    for entry_id, leaf in leaves:
        digest.update(tree_entry(entry_id, leaf))
        count += 1
    return count, digest.digest()


def erasure_facts(erasure: ErasureFacts) -> dict[str, Any]:
    """Return the values that the leaf of an erasure covers, without its nonce, as JSON types."""
    return {
        "id": str(erasure.id),
        "reason": erasure.reason,
        "erased_at": canonical_moment(erasure.erased_at),
        "entries": erasure.entries,
        "digest": bytes(erasure.digest).hex(),
        "pseudonym": erasure.pseudonym,
        "details": erasure.details,
    }


def erasure_leaf(erasure: ErasureFacts, key: Key) -> bytes:
    """Return the leaf of an erasure, which is also its signature (32 bytes)."""
    message = bytes(erasure.nonce) + canonical_json(erasure_facts(erasure))
    return hmac.digest(key.erasure, message, hashlib.sha256)


def seal_facts(seal: SealFacts) -> dict[str, Any]:
    """Return the values that the signature of a seal covers, as JSON types."""
    return {
        "number": seal.number,
        "root": bytes(seal.root).hex(),
        "entries": seal.entries,
        "erasures": seal.erasures,
        "sealed_at": canonical_moment(seal.sealed_at),
        "previous": bytes(seal.previous).hex(),
    }


def seal_signature(seal: SealFacts, key: Key) -> bytes:
    """Return the signature of a seal (32 bytes); it covers the previous seal's signature."""
    return hmac.digest(key.seal, canonical_json(seal_facts(seal)), hashlib.sha256)
