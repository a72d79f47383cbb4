"""Text and numbers that every database and every encoder accepts.

PostgreSQL rejects NUL in text, UTF-8 has no lone surrogates, and JSON has no infinity and no NaN.
"""

from __future__ import annotations

import math

__all__ = ["encodable_text", "is_finite", "is_storable", "storable_text"]


def is_storable(text: str) -> bool:
    """Return whether ``text`` contains neither NUL nor lone surrogates."""
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


def encodable_text(text: str) -> str:
    """Return ``text`` with ``?`` for each lone surrogate, so that it can be encoded as UTF-8."""
    return text.encode("utf-8", "replace").decode()


def storable_text(text: str, max_length: int) -> str:
    """Return ``text`` without NUL and lone surrogates, and at most ``max_length`` characters."""
    return encodable_text(text.replace("\x00", ""))[:max_length]


def is_finite(number: float) -> bool:
    """Return whether ``number`` is finite and within the range of a double."""
    try:
        return math.isfinite(float(number))
    except OverflowError:  # an integer that is too large
        return False
