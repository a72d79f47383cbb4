"""Encrypt the keys of Django sessions for ``Session.browser_key``, and delete Django sessions."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from django.conf import settings as django_settings

from .encryption import UnreadableSecret, decrypt_secret, encrypt_secret

__all__ = ["decrypt_key", "delete_django_sessions", "encrypt_key"]

logger = logging.getLogger("myometrics.auth.django_sessions")


def encrypt_key(key: str, *, session_id: Any) -> str:
    """Encrypt the key of a Django session for storage in the row ``session_id``."""
    return encrypt_secret(key, owner=f"session {session_id}")


def decrypt_key(stored: str, *, session_id: Any) -> str:
    """Decrypt a stored key; raise ``UnreadableSecret``."""
    return decrypt_secret(stored, owner=f"session {session_id}")


def delete_django_sessions(browser_keys: Mapping[Any, str]) -> None:
    """Delete Django sessions from the session store.

    ``browser_keys`` maps ``Session`` ids to stored keys.
    """
    store = import_module(django_settings.SESSION_ENGINE).SessionStore()
    for session_id, stored in browser_keys.items():
        try:
            store.delete(decrypt_key(stored, session_id=session_id))
        except UnreadableSecret:
            logger.warning("No key decrypts the Django session of session %s", session_id)
