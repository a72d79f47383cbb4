"""Text of strangers, made fit to be stored."""

from __future__ import annotations

__all__ = ["storable_text"]


def storable_text(text: str, longest: int) -> str:
    """``text`` as every database can keep it: NUL left out, each lone surrogate as ``?``, at most
    ``longest`` characters.
    """
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:longest]
