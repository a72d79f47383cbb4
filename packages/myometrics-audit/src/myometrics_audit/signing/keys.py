"""Signing keys of the evidence: found by id, rotated by adding one, reported when lost."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from django.conf import settings

from ..conf import audit_settings


@dataclass(frozen=True)
class Key:
    """The keys derived from one secret, one for each purpose (32 bytes each)."""

    id: str
    entry: bytes
    subject: bytes
    erasure: bytes
    seal: bytes


FindKey = Callable[[str], Key | None]
"""Returns the key with an id, ``None`` if it is lost."""


def active_key() -> Key:
    """Return the key that signs new evidence.

    Raises ``LookupError`` if ``ACTIVE_KEY`` is not in ``KEYS``.
    """
    secrets = audit_settings.KEYS
    if not secrets:
        return _secret_key_based(settings.SECRET_KEY)
    key_id = audit_settings.ACTIVE_KEY or next(reversed(secrets))
    if key_id not in secrets:
        raise LookupError(f"MYOMETRICS_AUDIT['KEYS'] has no key {key_id!r}")
    return _derive(key_id, secrets[key_id])


def find_key(key_id: str) -> Key | None:
    """Return the key with this id, ``None`` if it is lost."""
    return next((key for key in known_keys() if key.id == key_id), None)


def known_keys() -> Iterator[Key]:
    """Yield every available key: those in ``KEYS``, then those derived from Django's secrets."""
    for key_id, secret in audit_settings.KEYS.items():
        yield _derive(key_id, secret)
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        yield _secret_key_based(secret)


@lru_cache(maxsize=64)
def _secret_key_based(secret: str | bytes) -> Key:
    # The id depends on the secret, so that a changed SECRET_KEY is reported as a lost key.
    material = _purpose(_as_bytes(secret), "django-secret-key")
    return _derive(f"django-{_purpose(material, 'id').hex()[:12]}", material)


@lru_cache(maxsize=64)
def _derive(key_id: str, secret: str | bytes) -> Key:
    master = _as_bytes(secret)
    return Key(
        key_id, *(_purpose(master, name) for name in ("entry", "subject", "erasure", "seal"))
    )


def _purpose(secret: bytes, name: str) -> bytes:
    return hmac.digest(secret, b"myometrics-audit/" + name.encode(), hashlib.sha256)


def _as_bytes(secret: str | bytes) -> bytes:
    return secret if isinstance(secret, bytes) else secret.encode()
