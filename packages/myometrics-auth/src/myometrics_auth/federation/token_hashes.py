"""Hashes by which tokens are stored: tokens are random, so that no key is needed."""

from __future__ import annotations

import hashlib


def token_hash(token: str) -> str:
    """Return the SHA-256 of a token, in hexadecimal digits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
