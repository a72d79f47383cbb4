"""Events of the Open Cybersecurity Schema Framework (OCSF)."""

from __future__ import annotations

import json
from typing import Any, Final

from ... import __version__
from ...log.models import AuditLog
from ...sealing.export.interactions import interaction_of, outcome_of, words_of
from .documents import json_bytes
from .events import Kind, epoch_milliseconds, in_words, is_account, kind_of, severity_of, user_of
from .source import Source

VERSION: Final = "1.4.0"
"""The schema's version that events name. Later 1.x versions accept them too."""

ACCOUNT_CHANGE: Final = 3001
AUTHENTICATION: Final = 3002
ENTITY_MANAGEMENT: Final = 3004
API_ACTIVITY: Final = 6003
CLASS_NAMES: Final = {
    ACCOUNT_CHANGE: "Account Change",
    AUTHENTICATION: "Authentication",
    ENTITY_MANAGEMENT: "Entity Management",
    API_ACTIVITY: "API Activity",
}
CATEGORIES: Final = {
    3: "Identity & Access Management",
    6: "Application Activity",
}
WITH_CLIENT: Final = {API_ACTIVITY, AUTHENTICATION}
"""Classes that have the client's request and the server's endpoint."""
OTHER: Final = 99
RECORD_ACTIVITIES: Final = {"create": 1, "read": 2, "update": 3, "delete": 4}
"""Interaction → activity_id of API Activity and of Entity Management."""
ACCOUNT_ACTIVITIES: Final = (
    ({"password", "changed"}, 3),
    ({"password", "reset"}, 4),
    ({"factor", "enabled"}, 10),
    ({"passkey", "added"}, 10),
    ({"factor", "disabled"}, 11),
    ({"factor", "removed"}, 11),
    ({"passkey", "removed"}, 11),
    ({"user", "created"}, 1),
    ({"user", "deleted"}, 6),
    ({"enabled"}, 2),
    ({"disabled"}, 5),
    ({"locked"}, 9),
)
"""Words of an action → activity_id of an account change."""
SEVERITIES: Final = {
    "normal": (1, "Informational"),
    "failure": (3, "Medium"),
    "alert": (4, "High"),
}


def render_ocsf(entry: AuditLog, source: Source) -> bytes:
    """Render an entry as an OCSF event."""
    return json_bytes(ocsf_event(entry, source))


def ocsf_event(entry: AuditLog, source: Source) -> dict[str, Any]:
    """Return the OCSF event of an entry."""
    kind = kind_of(entry.action, entry.resource_type)
    class_uid = _class_uid(entry, kind)
    activity_id = _activity_id(entry, kind, class_uid)
    severity_id, severity = SEVERITIES[severity_of(entry.action, entry.resource_type)]
    succeeded = outcome_of(entry.action) == "0"
    return {
        "category_uid": class_uid // 1000,
        "category_name": CATEGORIES[class_uid // 1000],
        "class_uid": class_uid,
        "class_name": CLASS_NAMES[class_uid],
        "activity_id": activity_id,
        "activity_name": in_words(entry.action),
        "type_uid": class_uid * 100 + activity_id,
        "time": epoch_milliseconds(entry.timestamp),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": 1 if succeeded else 2,
        "status": "Success" if succeeded else "Failure",
        "message": f"{in_words(entry.action)}: {entry.resource_type} {entry.resource_id}",
        "metadata": _metadata(entry, source),
        **_subject(entry, source, class_uid),
        **_client(entry, source, class_uid),
        "unmapped": _unmapped(entry, source, class_uid),
    }


def _class_uid(entry: AuditLog, kind: Kind) -> int:
    if kind in {"login", "logout"}:
        return AUTHENTICATION
    if kind == "account":
        return ACCOUNT_CHANGE
    return API_ACTIVITY if entry.ip_address else ENTITY_MANAGEMENT


def _activity_id(entry: AuditLog, kind: Kind, class_uid: int) -> int:
    if class_uid == AUTHENTICATION:
        return 1 if kind == "login" else 2
    if class_uid == ACCOUNT_CHANGE:
        words = words_of(entry.action)
        return next((uid for known, uid in ACCOUNT_ACTIVITIES if known <= words), OTHER)
    if kind in {"query", "export", "audit_log"}:
        return 2
    return RECORD_ACTIVITIES.get(interaction_of(entry.action) or "", OTHER)


def _metadata(entry: AuditLog, source: Source) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "version": VERSION,
        "uid": str(entry.pk),
        "event_code": entry.action,
        "product": {
            "name": source.application or "myometrics-audit",
            "vendor_name": "MyoMetrics",
            "version": __version__,
        },
        "log_name": "audit",
    }
    if source.site_id:
        metadata["tenant_uid"] = source.site_id
    if entry.origin == AuditLog.Origin.CLIENT:
        metadata["labels"] = ["reported-by-client"]
    return metadata


def _subject(entry: AuditLog, source: Source, class_uid: int) -> dict[str, Any]:
    actor = _user(user_of(entry))
    if class_uid == AUTHENTICATION:
        return {"user": actor, "service": {"name": source.application or "myometrics-audit"}}
    if class_uid == ACCOUNT_CHANGE:
        target = _user(entry.resource_id) if is_account(entry.resource_type) else actor
        return {"user": target, "actor": {"user": actor}}
    resource = {"uid": entry.resource_id, "type": entry.resource_type}
    if class_uid == ENTITY_MANAGEMENT:
        return {"entity": resource, "actor": {"user": actor}}
    resources = [resource]
    if entry.data_subject:
        resources.append({"uid": entry.data_subject, "type": "data subject"})
    api = {"operation": entry.action}
    return {"actor": {"user": actor}, "api": api, "resources": resources}


def _user(user: str) -> dict[str, Any]:
    return {"uid": user, "type_id": 1, "type": "User"} if user else {"name": "anonymous"}


def _client(entry: AuditLog, source: Source, class_uid: int) -> dict[str, Any]:
    client: dict[str, Any] = {}
    if entry.ip_address:
        client["src_endpoint"] = {"ip": entry.ip_address}
    if entry.user_agent and class_uid in WITH_CLIENT:
        client["http_request"] = {"user_agent": entry.user_agent}
    if source.host and class_uid in WITH_CLIENT:
        client["dst_endpoint"] = {"hostname": source.host}
    return client


def _unmapped(entry: AuditLog, source: Source, class_uid: int) -> dict[str, str]:
    """Return what the schema has no attribute for, as text: receivers store it as a map."""
    unmapped = {
        "resource_type": entry.resource_type,
        "resource_id": entry.resource_id,
        "data_subject": entry.data_subject,
        "purpose": entry.purpose,
        "legal_basis": entry.legal_basis,
        "origin": entry.origin,
        "pseudonym": entry.pseudonym,
        "user_agent": "" if class_uid in WITH_CLIENT else entry.user_agent,
        "process_id": source.process_id,
        "details": json.dumps(entry.details, ensure_ascii=False) if entry.details else "",
    }
    return {name: text for name, text in unmapped.items() if text}
