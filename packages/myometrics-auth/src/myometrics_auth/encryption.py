"""Encryption of stored secrets: bound to their owner, with rotatable keys."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .conf import auth_settings


class UnreadableSecret(Exception):
    """None of the configured keys decrypts a stored secret; see ``MFA_ENCRYPTION_KEYS``."""


def encrypt_secret(secret: str, *, owner: Any) -> str:
    """Encrypt ``secret`` for storage; :func:`decrypt_secret` needs the same owner."""
    return _fernets(str(owner)).encrypt(secret.encode()).decode()


def decrypt_secret(stored: str, *, owner: Any) -> str:
    """Decrypt a stored secret; raise :class:`UnreadableSecret`."""
    try:
        return _fernets(str(owner)).decrypt(stored.encode()).decode()
    except InvalidToken as error:
        raise UnreadableSecret(f"No key decrypts the secret of {owner}.") from error


def _fernets(owner: str) -> MultiFernet:
    return MultiFernet([_fernet(key, owner) for key in auth_settings.encryption_keys])


@lru_cache(maxsize=256)
def _fernet(key: str, owner: str) -> Fernet:
    # "totp" predates other secrets; a different text would make every stored secret unreadable.
    info = f"myometrics-auth totp secret of {owner}".encode()
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
