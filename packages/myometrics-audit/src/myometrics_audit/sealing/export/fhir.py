"""Entries as FHIR R4 AuditEvents, following IHE's Basic Audit Log Patterns (BALP).

An event names its BALP profile if the entry has everything that the profile requires: a resource
that was created, read, updated or deleted successfully, or searched with the text of the search in
its details (``query``), and the client's address. With a data subject it is the patient's profile.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from django.db import router
from django.db.models import QuerySet

from myometrics_core.times import utc_text

from ...log.models import AuditLog
from .batches import sealed_batches
from .interactions import INTERACTIONS, interaction_of, outcome_of

DICOM = "http://dicom.nema.org/resources/ontology/DCM"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."

SOURCE = (DICOM, "110153", "Source Role ID")
DESTINATION = (DICOM, "110152", "Destination Role ID")
PARTICIPATION = TERMINOLOGY + "v3-ParticipationType"
AUTHOR = (PARTICIPATION, "AUT", "Author")
RECIPIENT = (PARTICIPATION, "IRCP", "information recipient")
ROLES = {
    "create": (SOURCE, DESTINATION, AUTHOR),
    "read": (DESTINATION, SOURCE, RECIPIENT),
    "update": (SOURCE, DESTINATION, AUTHOR),
    "delete": (
        (DICOM, "110150", "Application"),
        (TERMINOLOGY + "provenance-participant-type", "custodian", "Custodian"),
        AUTHOR,
    ),
    "search": (SOURCE, DESTINATION, RECIPIENT),
    None: (SOURCE, DESTINATION, RECIPIENT),
}
"""Interaction → the BALP agent types of client, server and user."""
PROFILES = {
    "create": "Create",
    "read": "Read",
    "update": "Update",
    "delete": "Delete",
    "search": "Query",
}
PURPOSES = {
    "BTG": "break the glass",
    "ETREAT": "Emergency Treatment",
    "HOPERAT": "healthcare operations",
    "HPAYMT": "healthcare payment",
    "HRESCH": "healthcare research",
    "PATRQT": "patient requested",
    "PUBHLTH": "public health",
    "TREAT": "treatment",
}
"""Codes of ActReason that a purpose may be; others are text."""


def fhir_lines(
    entries: QuerySet[AuditLog] | None = None, *, observer: str, using: str | None = None
) -> Iterator[str]:
    """Yield ``entries`` (default: all) as AuditEvent resources, one JSON text per line (NDJSON).

    ``observer`` is the name of this system. Entries that a client posted have the client as
    observer, those of ``audit_import`` the system that they were imported from.
    """
    chosen = AuditLog.objects.all() if entries is None else entries
    for batch in sealed_batches(chosen, using or router.db_for_read(AuditLog)):
        for entry_id in sorted(batch.entries):
            event = audit_event(batch.entries[entry_id], observer=observer)
            yield json.dumps(event, ensure_ascii=False)


def audit_event(entry: AuditLog, *, observer: str) -> dict[str, Any]:
    """Convert an entry to an AuditEvent resource."""
    interaction = interaction_of(entry.action)
    event: dict[str, Any] = {"resourceType": "AuditEvent", "id": f"audit-{entry.pk}"}
    profile = _profile(entry, interaction)
    if profile:
        event["meta"] = {"profile": [BALP + profile]}
    event = {
        **event,
        **_kind(entry.action, interaction),
        "recorded": utc_text(entry.timestamp),
        "outcome": outcome_of(entry.action),
        "agent": _agents(entry, interaction, observer),
        "source": _source(entry, observer),
        "entity": _entities(entry, profile),
    }
    if entry.purpose:
        event["purposeOfEvent"] = [_purpose(entry.purpose)]
    return event


def _profile(entry: AuditLog, interaction: str | None) -> str | None:
    if not interaction or not entry.ip_address or outcome_of(entry.action) != "0":
        return None
    if interaction == "search" and not _query(entry):
        return None
    return f"{'Patient' if entry.data_subject else ''}{PROFILES[interaction]}"


def _query(entry: AuditLog) -> str:
    query = entry.details.get("query")
    return query if isinstance(query, str) else ""


def _purpose(purpose: str) -> dict[str, Any]:
    if purpose in PURPOSES:
        code = _coding(TERMINOLOGY + "v3-ActReason", purpose, PURPOSES[purpose])
        return {"coding": [code]}
    return {"text": fhir_text(purpose)}


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
    code = _code(action)
    return {"type": activity, "subtype": [{"code": code, "display": code}], "action": "E"}


def _agents(entry: AuditLog, interaction: str | None, observer: str) -> list[dict[str, Any]]:
    client, server, user = ROLES[interaction]
    client_agent = _agent(client, {"display": fhir_text(entry.user_agent)})
    if entry.ip_address:
        client_agent["network"] = {"address": entry.ip_address, "type": "2"}
    who = entry.pseudonym if entry.user_id is None else str(entry.user_id)
    server_agent = _agent(server, {"display": observer}, requestor=not who)
    server_agent["network"] = {"address": observer, "type": "1"}
    users = [_agent(user, {"identifier": {"value": who}}, requestor=True)] if who else []
    return [client_agent, server_agent, *users]


def _source(entry: AuditLog, observer: str) -> dict[str, Any]:
    """Return the observer: who reported the event, by default this system."""
    who, kind = {"display": observer}, ("4", "Application Server")
    if entry.origin == AuditLog.Origin.CLIENT:
        who, kind = {"display": fhir_text(entry.user_agent)}, ("1", "User Device")
    imported = entry.details.get("imported")
    if entry.origin == AuditLog.Origin.IMPORT and isinstance(imported, dict):
        who = {"display": fhir_text(str(imported.get("system", "")))}
    return {
        "observer": who,
        "type": [_coding(TERMINOLOGY + "security-source-type", *kind)],
    }


def _agent(
    part: tuple[str, str, str], who: dict[str, Any], *, requestor: bool = False
) -> dict[str, Any]:
    return {"type": {"coding": [_coding(*part)]}, "who": who, "requestor": requestor}


def _entities(entry: AuditLog, profile: str | None) -> list[dict[str, Any]]:
    resource = _resource(entry)
    entities = [resource]
    if profile and profile.endswith("Query"):
        # These profiles allow one system object, the query.
        del resource["type"], resource["role"]
        entities.append(
            {
                "type": _coding(TERMINOLOGY + "audit-entity-type", "2", "System Object"),
                "role": _coding(TERMINOLOGY + "object-role", "24", "Query"),
                "query": b64encode(_query(entry).encode("utf-8", "replace")).decode(),
            }
        )
    if entry.data_subject:
        entities.append(
            {
                "what": {"type": "Patient", "identifier": {"value": fhir_text(entry.data_subject)}},
                "type": _coding(TERMINOLOGY + "audit-entity-type", "1", "Person"),
                "role": _coding(TERMINOLOGY + "object-role", "1", "Patient"),
            }
        )
    return entities


def _resource(entry: AuditLog) -> dict[str, Any]:
    # The type is text: a site's resource types are not part of a code system.
    kind = {"text": fhir_text(entry.resource_type)}
    entity: dict[str, Any] = {
        "what": {"identifier": {"type": kind, "value": fhir_text(entry.resource_id)}},
        "type": _coding(TERMINOLOGY + "audit-entity-type", "2", "System Object"),
        "role": _coding(TERMINOLOGY + "object-role", "4", "Domain Resource"),
    }
    details = {}
    if entry.details:
        details["details"] = json.dumps(entry.details, ensure_ascii=False, sort_keys=True)
    if entry.origin:
        details["origin"] = entry.origin
    if entry.legal_basis:
        details["legal_basis"] = fhir_text(entry.legal_basis)
    if details:
        entity["detail"] = [{"type": name, "valueString": text} for name, text in details.items()]
    return entity


def fhir_text(text: str) -> str:
    """Return a FHIR string: not empty, without control characters."""
    return "".join(c for c in text if c >= " " or c in "\t\n\r").strip() or "unknown"


def _code(text: str) -> str:
    """Return a FHIR code: words separated by single spaces."""
    return " ".join(fhir_text(text).split())


def _coding(system: str, code: str, display: str) -> dict[str, str]:
    return {"system": system, "code": code, "display": display}
