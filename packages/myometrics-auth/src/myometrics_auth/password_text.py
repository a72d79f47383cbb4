"""Unicode normalization of passwords (NFC): keyboards and systems encode ``é`` differently."""

from __future__ import annotations

import unicodedata


def normalize_password(password: str) -> str:
    """Return the form of a password that is hashed."""
    return unicodedata.normalize("NFC", password)


def password_spellings(password: str) -> list[str]:
    """Return the normalized form, and the password as entered if it differs.

    Earlier releases hashed passwords as entered.
    """
    return list(dict.fromkeys((normalize_password(password), password)))
