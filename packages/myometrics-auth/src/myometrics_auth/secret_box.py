"""Secrets at rest: encrypted, bound to their owner, with keys that can be rotated."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .conf import auth_settings

__all__ = ["UnreadableSecret", "decrypt_secret", "encrypt_secret"]


class UnreadableSecret(Exception):
    """None of the configured keys opens a stored secret; see ``MFA_ENCRYPTION_KEYS``."""


def encrypt_secret(secret: str, *, owner: Any) -> str:
    """``secret`` as it may be stored; only :func:`decrypt_secret` for the same owner opens it."""
    return _box(str(owner)).encrypt(secret.encode()).decode()


def decrypt_secret(stored: str, *, owner: Any) -> str:
    """The secret again; raises :class:`UnreadableSecret`."""
    try:
        return _box(str(owner)).decrypt(stored.encode()).decode()
    except InvalidToken as error:
        raise UnreadableSecret(f"No key opens the secret of user {owner}.") from error


def _box(owner: str) -> MultiFernet:
    return MultiFernet([_fernet(key, owner) for key in auth_settings.encryption_keys])


@lru_cache(maxsize=256)
def _fernet(key: str, owner: str) -> Fernet:
    # "totp" from when there were no other secrets: with another text none of them would decrypt.
    info = f"myometrics-auth totp secret of {owner}".encode()
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
