"""Events of the Elastic Common Schema (ECS)."""

from __future__ import annotations

import json
from typing import Any, Final

from myometrics_core.times import utc_text

from ... import __version__
from ...log.models import AuditLog
from ...sealing.export.interactions import interaction_of, outcome_of
from .documents import json_bytes
from .events import Kind, in_words, kind_of, severity_of, user_of
from .source import Source

VERSION: Final = "8.11.0"
"""The version that events name: the first with the category ``api``."""

TYPES: Final[dict[Kind, tuple[str, list[str]]]] = {
    "login": ("authentication", ["start"]),
    "logout": ("authentication", ["end"]),
    "emergency": ("iam", ["admin", "change"]),
    "alert": ("authentication", ["info"]),
    "audit_log": ("api", ["access"]),
    "export": ("api", ["access"]),
    "import": ("api", ["creation"]),
    "query": ("api", ["access"]),
    "activity": ("api", ["info"]),
}
"""Kind → event.category and event.type."""
RECORD_TYPES: Final = {
    "create": "creation",
    "read": "access",
    "update": "change",
    "delete": "deletion",
}
SEVERITIES: Final = {"normal": 3, "failure": 6, "alert": 9}
"""The severities of the CEF format."""


def render_ecs(entry: AuditLog, source: Source) -> bytes:
    """Render an entry as an event of the Elastic Common Schema."""
    return json_bytes(ecs_event(entry, source))


def ecs_event(entry: AuditLog, source: Source) -> dict[str, Any]:
    """Return the ECS event of an entry."""
    event = {
        "@timestamp": utc_text(entry.timestamp, "milliseconds"),
        "ecs": {"version": VERSION},
        "message": f"{in_words(entry.action)}: {entry.resource_type} {entry.resource_id}",
        "event": _event(entry, source),
        **_user(entry),
        **_client(entry),
        **_source(source),
        "labels": _labels(entry),
        "myometrics": {"audit": _audit(entry)},
    }
    if entry.origin == AuditLog.Origin.CLIENT:
        event["tags"] = ["reported-by-client"]
    return event


def _event(entry: AuditLog, source: Source) -> dict[str, Any]:
    kind = kind_of(entry.action, entry.resource_type)
    category, types = TYPES.get(kind) or _category_and_types(entry, kind)
    outcome = outcome_of(entry.action)
    return {
        "kind": "event",
        "category": [category],
        "type": [*types, "denied"] if outcome == "8" and category == "api" else types,
        "action": entry.action,
        "outcome": "success" if outcome == "0" else "failure",
        "id": str(entry.pk),
        "module": "myometrics",
        "dataset": "myometrics.audit",
        "provider": source.application or "myometrics-audit",
        "severity": SEVERITIES[severity_of(entry.action, entry.resource_type)],
    }


def _category_and_types(entry: AuditLog, kind: Kind) -> tuple[str, list[str]]:
    found = RECORD_TYPES.get(interaction_of(entry.action) or "", "change")
    return ("iam", ["user", found]) if kind == "account" else ("api", [found])


def _user(entry: AuditLog) -> dict[str, Any]:
    user = user_of(entry)
    related = {"user": [user]} if user else {}
    if entry.ip_address:
        related["ip"] = [entry.ip_address]
    fields: dict[str, Any] = {"user": {"id": user}} if user else {}
    return {**fields, "related": related} if related else fields


def _client(entry: AuditLog) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if entry.ip_address:
        fields["source"] = {"ip": entry.ip_address}
    if entry.user_agent:
        fields["user_agent"] = {"original": entry.user_agent}
    return fields


def _source(source: Source) -> dict[str, Any]:
    name = source.application or "myometrics-audit"
    fields: dict[str, Any] = {"service": {"name": name, "type": "myometrics"}}
    fields["agent"] = {"type": "myometrics-audit", "version": __version__}
    if source.host:
        fields["host"] = {"name": source.host, "hostname": source.host}
    if source.site_id:
        fields["organization"] = {"id": source.site_id}
    if source.process_id:
        fields["process"] = {"entity_id": source.process_id}
    return fields


def _labels(entry: AuditLog) -> dict[str, str]:
    labels = {
        "origin": entry.origin,
        "data_subject": entry.data_subject,
        "purpose": entry.purpose,
        "legal_basis": entry.legal_basis,
        "erased_user": "true" if entry.user_id is None and entry.pseudonym else "",
    }
    return {name: text for name, text in labels.items() if text}


def _audit(entry: AuditLog) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "resource": {"type": entry.resource_type, "id": entry.resource_id},
    }
    if entry.details:
        # Text: as objects, the details of different actions would conflict in one index.
        fields["details"] = json.dumps(entry.details, ensure_ascii=False)
    return fields
