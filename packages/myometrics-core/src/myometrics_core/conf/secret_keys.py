"""Secret keys with rotation: the first key makes new values, all keys are accepted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.conf import settings as django_settings

from ..texts import encodable_text

MIN_KEY_BYTES: Final = 32
"""Minimum key length in bytes for HMAC-SHA-256 (RFC 7518, 3.2)."""


def key_list(value: Iterable[Any]) -> None:
    """For ``validate`` of a setting: raises ``ValueError`` unless it lists at least one key."""
    keys = list(value)
    if not keys or not all(isinstance(key, str) and key for key in keys):
        raise ValueError("must hold at least one key, each a text that is not empty")
    if any(encodable_text(key) != key for key in keys):
        raise ValueError("holds a key that is not valid UTF-8")  # from the environment


def django_secret_keys() -> list[str]:
    """Return ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS``, the default of every key list."""
    return [str(key) for key in (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS)]


def has_short_key(keys: Iterable[str]) -> bool:
    """Return whether any of ``keys`` has fewer than :data:`MIN_KEY_BYTES` bytes."""
    return any(len(key.encode()) < MIN_KEY_BYTES for key in keys)
