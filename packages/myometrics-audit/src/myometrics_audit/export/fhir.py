"""Entries as FHIR R4 AuditEvents, after IHE's Basic Audit Log Patterns (BALP).

An entry names its BALP profile where it has all that the profile asks for: a created, read,
updated or deleted resource, and the client's address.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.db import router

from myometrics_core.times import utc_text

from ..models import AuditLog
from .rows import ExportFilter, batches

__all__ = ["audit_event", "fhir_lines"]

DICOM = "http://dicom.nema.org/resources/ontology/DCM"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."

INTERACTIONS = {
    "create": ("C", {"created", "added", "registered", "uploaded"}),
    "read": ("R", {"read", "viewed", "seen", "printed", "downloaded", "exported", "opened"}),
    "update": ("U", {"updated", "changed", "edited", "processed", "completed", "reset"}),
    "delete": ("D", {"deleted", "removed", "erased", "purged"}),
}
SOURCE, DESTINATION = ("110153", "Source Role ID"), ("110152", "Destination Role ID")


def fhir_lines(chosen: ExportFilter, *, observer: str, using: str | None = None) -> Iterator[str]:
    """The chosen entries as AuditEvent resources, one JSON text per line (NDJSON).

    ``observer`` names this system.
    """
    for batch in batches(chosen, using or router.db_for_read(AuditLog)):
        for entry_id in sorted(batch.entries):
            event = audit_event(batch.entries[entry_id], observer=observer)
            yield json.dumps(event, ensure_ascii=False)


def audit_event(entry: AuditLog, *, observer: str) -> dict[str, Any]:
    """One entry as an AuditEvent resource."""
    interaction = _interaction(entry.action)
    event: dict[str, Any] = {"resourceType": "AuditEvent", "id": f"audit-{entry.pk}"}
    if interaction and entry.ip_address:
        event["meta"] = {"profile": [BALP + interaction.capitalize()]}
    return {
        **event,
        **_kind(entry.action, interaction),
        "recorded": utc_text(entry.timestamp),
        "outcome": "4" if "fail" in entry.action else "0",
        "agent": _agents(entry, interaction, observer),
        "source": {
            "observer": {"display": observer},
            "type": [_coding(TERMINOLOGY + "security-source-type", "4", "Application Server")],
        },
        "entity": [_entity(entry)],
    }


def _interaction(action: str) -> str | None:
    words = set(action.lower().replace("-", "_").replace(".", "_").split("_"))
    found = (name for name, (_, verbs) in INTERACTIONS.items() if words & {name, *verbs})
    return next(found, None)


def _kind(action: str, interaction: str | None) -> dict[str, Any]:
    if interaction:
        code = INTERACTIONS[interaction][0]
        subtype = _coding("http://hl7.org/fhir/restful-interaction", interaction, interaction)
        rest = _coding(TERMINOLOGY + "audit-event-type", "rest", "Restful Operation")
        return {"type": rest, "subtype": [subtype], "action": code}
    if action.startswith(("login", "logout")):
        name = ("110123", "Logout") if action.startswith("logout") else ("110122", "Login")
        return {
            "type": _coding(DICOM, "110114", "User Authentication"),
            "subtype": [_coding(DICOM, *name)],
            "action": "E",
        }
    activity = _coding(DICOM, "110100", "Application Activity")
    return {"type": activity, "subtype": [{"code": action, "display": action}], "action": "E"}


def _agents(entry: AuditLog, interaction: str | None, observer: str) -> list[dict[str, Any]]:
    # In a read the data flows from server to client, so the roles are the other way round.
    client, server = (DESTINATION, SOURCE) if interaction == "read" else (SOURCE, DESTINATION)
    client_agent: dict[str, Any] = {
        "type": {"coding": [_coding(DICOM, *client)]},
        "who": {"display": entry.user_agent or "unknown"},
        "requestor": False,
    }
    if entry.ip_address:
        client_agent["network"] = {"address": entry.ip_address, "type": "2"}
    server_agent = {
        "type": {"coding": [_coding(DICOM, *server)]},
        "who": {"display": observer},
        "requestor": entry.user_id is None and not entry.pseudonym,
        "network": {"address": observer, "type": "1"},
    }
    who = entry.pseudonym if entry.user_id is None else str(entry.user_id)
    return [client_agent, server_agent, *([_user_agent(who)] if who else [])]


def _user_agent(who: str) -> dict[str, Any]:
    recipient = _coding(TERMINOLOGY + "v3-ParticipationType", "IRCP", "information recipient")
    return {
        "type": {"coding": [recipient]},
        "who": {"identifier": {"value": who}},
        "requestor": True,
    }


def _entity(entry: AuditLog) -> dict[str, Any]:
    entity: dict[str, Any] = {
        "what": {
            "identifier": {"system": f"urn:{entry.resource_type}", "value": entry.resource_id}
        },
        "type": _coding(TERMINOLOGY + "audit-entity-type", "2", "System Object"),
        "role": _coding(TERMINOLOGY + "object-role", "4", "Domain Resource"),
    }
    if entry.details:
        text = json.dumps(entry.details, ensure_ascii=False, sort_keys=True)
        entity["detail"] = [{"type": "details", "valueString": text}]
    return entity


def _coding(system: str, code: str, display: str) -> dict[str, str]:
    return {"system": system, "code": code, "display": display}
