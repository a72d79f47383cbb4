"""Keyed hashes that recognize a value without storing it.

The keys are ``MYOMETRICS["PSEUDONYM_KEYS"]``. Store the hash of the first key, and look up the
hashes of all keys, so that rows from before a key rotation are found.
"""

from __future__ import annotations

import hmac

from ..conf.core_settings import core_settings
from .email_addresses import canonical_email


def keyed_hash(purpose: str, *parts: str, secret: str | None = None) -> str:
    """Return 64 hexadecimal digits for the ``purpose`` and ``parts``; default: the newest key."""
    key = str(secret or core_settings.pseudonym_keys[0]).encode()
    message = "\x00".join((f"myometrics {purpose}", *parts))
    return hmac.digest(key, message.encode("utf-8", "surrogatepass"), "sha256").hex()


def keyed_hashes(purpose: str, *parts: str) -> list[str]:
    """Return the :func:`keyed_hash` of ``parts`` under each key, newest key first."""
    return [keyed_hash(purpose, *parts, secret=key) for key in core_settings.pseudonym_keys]


def account_pseudonym(email: str) -> str:
    """Return the pseudonym of an e-mail address, the same for all its spellings.

    It is the ``resource_id`` of events about an address for which no user was authenticated.
    """
    return keyed_hash("account", canonical_email(email))


def account_pseudonyms(email: str) -> list[str]:
    """Return the :func:`account_pseudonym` of ``email`` under each key, for lookups."""
    return keyed_hashes("account", canonical_email(email))
