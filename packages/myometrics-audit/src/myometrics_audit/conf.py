"""The settings of audit: the dictionary ``MYOMETRICS_AUDIT``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from myometrics_core.conf import DOTTED_PATH, Setting, SettingsGroup

__all__ = ["AuditSettings", "audit_settings"]

KEY_ID_LENGTH = 32
SECRET_LENGTH = 32


def _keys(value: Mapping[str, Any]) -> None:
    for key_id, secret in value.items():
        if not isinstance(key_id, str) or not 1 <= len(key_id) <= KEY_ID_LENGTH:
            raise ValueError(f"has the id {key_id!r}; expected text of 1 to {KEY_ID_LENGTH}")
        if not isinstance(secret, str) or len(secret) < SECRET_LENGTH:
            raise ValueError(f"needs {SECRET_LENGTH} or more characters of text for {key_id!r}")


def _batch_size(value: int) -> None:
    if not 1 <= value <= 20_000:
        raise ValueError("must be from 1 to 20000")


def _agent_length(value: int) -> None:
    if not 0 <= value <= 65_536:
        raise ValueError("must be from 0 to 65536")


class AuditSettings(SettingsGroup):
    """The settings of the audit log."""

    name = "MYOMETRICS_AUDIT"
    app = "myometrics_audit"

    ON_USER_DELETE = Setting(
        str,
        "cascade",
        "What happens to a user's entries when the user is deleted: `cascade` erases them, "
        "`retain` keeps them without the user, under a random pseudonym.",
        choices=("cascade", "retain"),
    )
    KEYS = Setting(
        dict,
        {},
        "Secrets that evidence is signed with, by id, oldest first; each 32 characters or more. "
        "Never remove one that entries were written under. By default one key is derived from "
        "`SECRET_KEY`, and older ones from `SECRET_KEY_FALLBACKS`.",
        validate=_keys,
    )
    ACTIVE_KEY = Setting(
        str, None, "Id of the key that new evidence is signed with; by default the last of `KEYS`."
    )
    SEAL_BATCH_SIZE = Setting(
        int, 8192, "Maximum number of leaves in one seal.", validate=_batch_size
    )
    ANCHOR_FILE = Setting(
        str,
        None,
        "File that each new seal is appended to as a JSON line; keep it where the database's "
        "administrator can't write. Anchors also go to the logger `myometrics.audit.anchor`.",
    )
    ANCHOR_HOOK = Setting(
        DOTTED_PATH,
        None,
        "Function that publishes a new seal's anchor (a dictionary), its only argument.",
    )
    USER_AGENT_MAX_LENGTH = Setting(
        int, 1024, "Maximum length of a stored user agent, in characters.", validate=_agent_length
    )
    ALLOW_FLUSH = Setting(
        bool,
        False,
        "For test settings only: allows `flush`, and so TransactionTestCase, to empty the "
        "guarded tables.",
    )


audit_settings = AuditSettings()
"""``MYOMETRICS_AUDIT`` with its defaults, read at each access."""
