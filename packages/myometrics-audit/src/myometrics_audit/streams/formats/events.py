"""The kind of event that an entry records, and its severity, for all formats."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Final, Literal

from django.conf import settings

from ...log.models import AuditLog
from ...sealing.export.interactions import interaction_of, outcome_of, words_of

Kind = Literal[
    "login",
    "logout",
    "emergency",
    "alert",
    "audit_log",
    "export",
    "import",
    "query",
    "account",
    "record",
    "activity",
]
Severity = Literal["normal", "failure", "alert"]

_KIND_WORDS: Final[tuple[tuple[Kind, frozenset[str]], ...]] = (
    ("logout", frozenset({"logout", "logoff", "signout"})),
    ("login", frozenset({"login", "logon", "signin"})),
    ("emergency", frozenset({"emergency"})),
    ("alert", frozenset({"alert", "breach", "regressed", "reused", "tampered"})),
)
_TRANSFER_WORDS: Final[tuple[tuple[Kind, frozenset[str]], ...]] = (
    ("export", frozenset({"export", "exported", "downloaded", "printed"})),
    ("import", frozenset({"import", "imported"})),
)
_ACTIONS: Final[dict[str, Kind]] = {
    "access_report_viewed": "audit_log",
    "audit_log_read": "audit_log",
    "finding_opened": "alert",
    "record_opened_outside_care_team": "alert",
    "session_ended": "logout",
}
_CREDENTIALS: Final = frozenset(
    {"factor", "identity", "passkey", "password", "permission", "permissions", "recovery", "role"}
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ACCOUNTS: Final = frozenset({"account", "user"})


@lru_cache(maxsize=1024)
def kind_of(action: str, resource_type: str) -> Kind:
    """Return the kind of an event with this action on a resource of this type."""
    if action in _ACTIONS:
        return _ACTIONS[action]
    words = words_of(action)
    for kind, kind_words in _KIND_WORDS:
        if words & kind_words:
            return kind
    if resource_type in {"audit_log", "myometrics_audit.auditlog"}:
        return "audit_log"
    for kind, kind_words in _TRANSFER_WORDS:
        if words & kind_words:
            return kind
    interaction = interaction_of(action)
    if interaction == "search":
        return "query"
    if interaction != "read" and (words & _CREDENTIALS or is_account(resource_type)):
        return "account"
    return "activity" if interaction is None else "record"


@lru_cache(maxsize=1024)
def is_account(resource_type: str) -> bool:
    """Return whether resources of this type are user accounts."""
    name = resource_type.lower()
    return name == settings.AUTH_USER_MODEL.lower() or name.rpartition(".")[2] in _ACCOUNTS


@lru_cache(maxsize=1024)
def severity_of(action: str, resource_type: str) -> Severity:
    """Return how much attention an event needs."""
    if kind_of(action, resource_type) in {"emergency", "alert"}:
        return "alert"
    return "normal" if outcome_of(action) == "0" else "failure"


def user_of(entry: AuditLog) -> str:
    """Return the user's id, the pseudonym of an erased user, or ``""`` for anonymous actions."""
    return entry.pseudonym if entry.user_id is None else str(entry.user_id)


def in_words(action: str) -> str:
    """Return the words of an action separated by spaces: ``patient viewed``."""
    return " ".join(action.replace("_", " ").split()) or action


def epoch_milliseconds(moment: datetime) -> int:
    """Return whole milliseconds since 1970."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)
