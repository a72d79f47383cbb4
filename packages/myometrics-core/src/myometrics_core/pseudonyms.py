"""Keyed hashes: the same thing recognised again without being kept.

The keys are ``MYOMETRICS["PSEUDONYM_KEYS"]``. Store what the first one makes, and look it up under
all of them: rows from before a rotation are then still found.
"""

from __future__ import annotations

import hmac

from .email_addresses import canonical_email
from .settings import core_settings

__all__ = ["account_pseudonym", "account_pseudonyms", "keyed_hash", "keyed_hashes"]


def keyed_hash(purpose: str, *parts: str, secret: str | None = None) -> str:
    """64 hexadecimal digits for ``parts`` under ``secret``; differs by ``purpose``.

    Without ``secret``, under the first of ``PSEUDONYM_KEYS``.
    """
    key = str(secret or core_settings.pseudonym_keys[0]).encode()
    message = "\x00".join((f"myometrics {purpose}", *parts))
    return hmac.digest(key, message.encode("utf-8", "surrogatepass"), "sha256").hex()


def keyed_hashes(purpose: str, *parts: str) -> list[str]:
    """Every :func:`keyed_hash` of ``parts`` that may be stored: one for each key, newest first."""
    return [keyed_hash(purpose, *parts, secret=key) for key in core_settings.pseudonym_keys]


def account_pseudonym(email: str) -> str:
    """What stands for an e-mail address, in any spelling, where it must not be kept itself.

    It is the ``resource_id`` of activities about an address that nobody signed in with.
    """
    return keyed_hash("account", canonical_email(email))


def account_pseudonyms(email: str) -> list[str]:
    """Every :func:`account_pseudonym` that may be stored for ``email``: what to look for."""
    return keyed_hashes("account", canonical_email(email))
