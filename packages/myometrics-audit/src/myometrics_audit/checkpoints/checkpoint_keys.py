"""The key that signs checkpoints, and the public keys of earlier ones and of witnesses."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from ..conf import audit_settings
from ..signing.notes import (
    InvalidNote,
    SigningKey,
    TreeHead,
    VerifierKey,
    split_note,
    verified_by,
)


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


def read_own_head(
    note: str, *, keys: list[VerifierKey], witnesses: Iterable[VerifierKey] = ()
) -> TreeHead:
    """Return the head of a checkpoint of this log; raise ``InvalidNote`` if it is not one.

    ``keys`` are those of this log; an older one may have signed under another name. Signatures of
    ``witnesses`` must be valid if there are any.
    """
    signed = [key for key in verified_by(note, [*keys, *witnesses]) if key in keys]
    if not signed:
        raise InvalidNote("no key of this log has signed it")
    head = TreeHead.parse(split_note(note)[0])
    if head.origin not in {origin(), *(key.name for key in signed)}:
        raise InvalidNote(f"it is of the log {head.origin}")
    return head


def witness_keys() -> dict[VerifierKey, str]:
    """Map the public key of each witness to its URL; raise ``ImproperlyConfigured``."""
    try:
        return {VerifierKey.parse(key): url for key, url in audit_settings.WITNESSES.items()}
    except InvalidNote as error:
        raise ImproperlyConfigured(f"WITNESSES: {error}") from error
