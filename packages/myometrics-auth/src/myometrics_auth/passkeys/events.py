"""Audit actions of passkeys."""

from __future__ import annotations

RESERVED_ACTIONS = ("passkey_added", "passkey_counter_regressed", "passkey_removed")
"""Actions reserved for this app: clients can't post them."""
