"""One form per mailbox, however its address is written.

Compatibility variants (full-width letters, ligatures, the Kelvin sign) and case fold together,
and an international domain folds into its ASCII form.
"""

from __future__ import annotations

import unicodedata

__all__ = ["canonical_email", "fold_text"]


def fold_text(text: str) -> str:
    """``text`` without distinctions of case and compatibility: NFKC, case-folded, NFKC."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded)


def canonical_email(address: str) -> str:
    """The form of an e-mail address that all its spellings share. Takes any text, never raises."""
    local, at, domain = fold_text(address).strip().rpartition("@")
    return f"{local}{at}{_ascii_domain(domain)}"


def _ascii_domain(domain: str) -> str:
    if domain.isascii():
        return domain
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return domain
