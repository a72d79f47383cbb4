"""Keyed hashes: the same thing recognised again without being kept."""

from __future__ import annotations

import hmac

from django.conf import settings as django_settings

from .email_addresses import canonical_email

__all__ = ["account_pseudonym", "keyed_hash"]


def keyed_hash(purpose: str, *parts: str, secret: str | None = None) -> str:
    """64 hexadecimal digits for ``parts`` under ``secret`` (the site's); differs by ``purpose``."""
    key = str(secret or django_settings.SECRET_KEY).encode()
    message = "\x00".join((f"myometrics {purpose}", *parts))
    return hmac.digest(key, message.encode("utf-8", "surrogatepass"), "sha256").hex()


def account_pseudonym(email: str) -> str:
    """What stands for an e-mail address, in any spelling, where it must not be kept itself.

    It is the ``resource_id`` of activities about an address that nobody signed in with.
    """
    return keyed_hash("account", canonical_email(email))
