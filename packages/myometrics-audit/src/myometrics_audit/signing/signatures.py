"""Leaf hashes and signatures: pure functions from facts to bytes.

An entry's leaf is an HMAC over a random nonce and the canonical row. The nonce is stored only in
the row and deleted with it, so the leaf of an erased row reveals nothing about the row.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from .canonical import canonical_address, canonical_json, canonical_moment
from .keys import Key

__all__ = [
    "GENESIS",
    "EntryFacts",
    "ErasureFacts",
    "SealFacts",
    "canonical_entry",
    "entry_leaf",
    "erasure_digest",
    "erasure_facts",
    "erasure_leaf",
    "new_nonce",
    "seal_facts",
    "seal_signature",
    "subject_of",
    "tree_entry",
    "tree_erasure",
]

GENESIS = bytes(32)
"""The ``previous`` signature of the first seal."""


class EntryFacts(Protocol):
    """The columns of an entry that its leaf covers, except the user: the subject replaces it."""

    nonce: bytes | memoryview
    action: str
    resource_type: str
    resource_id: str
    timestamp: datetime
    ip_address: str | None
    user_agent: str
    details: Mapping[str, Any]
    activity_id: str | None


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


def canonical_entry(entry: EntryFacts, subject: str | None) -> bytes:
    """Return the bytes of an entry that its leaf covers."""
    return canonical_json(
        {
            "subject": subject,
            "action": entry.action,
            "resource_type": entry.resource_type,
            "resource_id": entry.resource_id,
            "timestamp": canonical_moment(entry.timestamp),
            "ip_address": canonical_address(entry.ip_address),
            "user_agent": entry.user_agent,
            "details": entry.details,
            "activity_id": entry.activity_id,
        }
    )


def entry_leaf(entry: EntryFacts, subject: str | None, key: Key) -> bytes:
    """Return the leaf of an entry (32 bytes)."""
    message = bytes(entry.nonce) + canonical_entry(entry, subject)
    return hmac.digest(key.entry, message, hashlib.sha256)


def tree_entry(entry_id: int, leaf: bytes | memoryview) -> bytes:
    """Return an entry's data in a seal's tree: id and leaf, so that the seal covers the id."""
    return entry_id.to_bytes(8, "big", signed=True) + bytes(leaf)


def tree_erasure(erasure_id: UUID, leaf: bytes | memoryview) -> bytes:
    """Return an erasure's data in a seal's tree: id and leaf."""
    return erasure_id.bytes + bytes(leaf)


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
