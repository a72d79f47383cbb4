"""The key that signs checkpoints, and the public keys of earlier ones and of witnesses."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from ..conf import audit_settings
from ..signing.notes import InvalidNote, SigningKey, VerifierKey


def signing_key() -> SigningKey:
    """Return the private key; raise ``ImproperlyConfigured`` if it is missing or malformed."""
    text = audit_settings.CHECKPOINT_KEY
    path = audit_settings.CHECKPOINT_KEY_FILE
    if text is None and path is None:
        raise ImproperlyConfigured(
            "MYOMETRICS_AUDIT has neither CHECKPOINT_KEY nor CHECKPOINT_KEY_FILE."
        )
    try:
        return _parsed(text if text is not None else Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImproperlyConfigured(f"The key of checkpoints can't be read: {error}") from None


@lru_cache(maxsize=8)
def _parsed(text: str) -> SigningKey:
    return SigningKey.parse(text)


def origin() -> str:
    """Return the first line of checkpoints: the name of this log."""
    return audit_settings.CHECKPOINT_ORIGIN or next((key.name for key in verifier_keys()), "")


def verifier_keys() -> list[VerifierKey]:
    """Return the public keys of this log: the current one, if it is configured, then older ones.

    Raises ``ImproperlyConfigured`` if one is malformed.
    """
    try:
        old = [VerifierKey.parse(text) for text in audit_settings.CHECKPOINT_OLD_KEYS]
    except InvalidNote as error:
        raise ImproperlyConfigured(f"CHECKPOINT_OLD_KEYS: {error}") from error
    has_key = audit_settings.CHECKPOINT_KEY or audit_settings.CHECKPOINT_KEY_FILE
    return [signing_key().verifier, *old] if has_key else old


def witness_keys() -> dict[VerifierKey, str]:
    """Map the public key of each witness to its URL; raise ``ImproperlyConfigured``."""
    try:
        return {VerifierKey.parse(key): url for key, url in audit_settings.WITNESSES.items()}
    except InvalidNote as error:
        raise ImproperlyConfigured(f"WITNESSES: {error}") from error
