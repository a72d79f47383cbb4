"""Sanitization of untrusted text for storage."""

from __future__ import annotations

__all__ = ["storable_text"]


def storable_text(text: str, longest: int) -> str:
    """Return ``text`` in a form that every database can store.

    NUL is removed, each lone surrogate becomes ``?``, and the result has at most ``longest``
    characters.
    """
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:longest]
