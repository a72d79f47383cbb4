"""AuditEvents follow FHIR R4 and the profiles of IHE's BALP."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from datetime import datetime, timezone
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from fhir.resources.R4B.auditevent import AuditEvent
from hypothesis import given
from hypothesis import strategies as st

from myometrics_audit.models import AuditLog
from myometrics_audit.sealing.export.fhir import audit_event

MOMENT = datetime(2025, 8, 19, 15, 45, 30, 123456, tzinfo=timezone.utc)
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
CODES = "http://terminology.hl7.org/CodeSystem/"
DATA_SOURCES = {(CODES + "v3-ParticipationType", code) for code in ("AUT", "INF", "CST")}
RECIPIENT = (CODES + "v3-ParticipationType", "IRCP")
SOURCE, DESTINATION = (DICOM, "110153"), (DICOM, "110152")

# What BALP 1.1.3 fixes: interaction → action, client, server, what a user may be.
PROFILES: dict[str, Any] = {
    "Create": ("create", "C", SOURCE, DESTINATION, DATA_SOURCES),
    "Read": ("read", "R", DESTINATION, SOURCE, {RECIPIENT}),
    "Update": ("update", "U", SOURCE, DESTINATION, DATA_SOURCES),
    "Delete": (
        "delete",
        "D",
        (DICOM, "110150"),
        (CODES + "provenance-participant-type", "custodian"),
        DATA_SOURCES,
    ),
}
OBJECT_ROLES = {"4", "3", "20"}


def entry(**values):
    """An unsaved entry."""
    fields = {
        "pk": 7,
        "user_id": "3f1c",
        "action": "upload_created",
        "resource_type": "upload",
        "resource_id": "upload_001",
        "timestamp": MOMENT,
        "ip_address": "192.168.1.100",
        "user_agent": "Mozilla/5.0",
        "details": {"a": 1},
    }
    made = AuditLog(**{key: value for key, value in {**fields, **values}.items() if key != "pk"})
    made.pk = fields["pk"]
    return made


def exported(made):
    """The event after serialization and a check of FHIR's structure."""
    event: dict[str, Any] = json.loads(json.dumps(audit_event(made, observer="clinic.example")))
    AuditEvent.model_validate(event)
    assert event["action"] in "CRUDE"
    assert event["outcome"] in {"0", "4", "8", "12"}
    assert all(agent.get("network", {}).get("type", "1") in "12345" for agent in event["agent"])
    assert_sound(event)
    return event


def assert_sound(part):
    """FHIR has no empty strings, lists or objects, and no control characters except white space."""
    assert part not in ("", [], {}, None)
    if isinstance(part, str):
        assert part.strip()
        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", part)
    elif isinstance(part, (dict, list)):
        for inner in part.values() if isinstance(part, dict) else part:
            assert_sound(inner)


def coding(concept):
    (found,) = concept.get("coding", [concept])
    return found["system"], found["code"]


def assert_follows(event, profile):
    """Check the additional requirements of the profile."""
    interaction, action, client_part, server_part, user_parts = PROFILES[profile]
    assert coding(event["type"]) == (CODES + "audit-event-type", "rest")
    assert [coding(subtype) for subtype in event["subtype"]] == [
        ("http://hl7.org/fhir/restful-interaction", interaction)
    ]
    assert (event["action"], event["outcome"]) == (action, "0")
    assert event["recorded"]
    parts = {coding(agent["type"]): agent for agent in event["agent"]}
    assert len(parts) == len(event["agent"]) >= 2
    for part in (client_part, server_part):
        assert parts[part]["who"]
        assert parts[part]["network"]["address"]
        assert "media" not in parts[part]
    for part, user in parts.items():
        if part not in (client_part, server_part):
            assert part in user_parts
            assert user["requestor"] is True
            assert user["who"]
            assert not {"network", "media"} & set(user)
    assert event["source"]["observer"]
    (data,) = [
        e for e in event["entity"] if coding(e["type"]) == (CODES + "audit-entity-type", "2")
    ]
    assert data["role"]["code"] in OBJECT_ROLES
    assert data["what"]


@pytest.mark.parametrize(
    ("action", "profile"),
    [
        ("upload_created", "Create"),
        ("report_viewed", "Read"),
        ("user_updated", "Update"),
        ("user_deleted", "Delete"),
    ],
)
@pytest.mark.parametrize("user_id", ["3f1c", None])
@pytest.mark.parametrize("address", ["192.168.1.100", "2001:db8::7"])
def test_fhir_event_with_a_profile_follows_it(action, profile, user_id, address):
    event = exported(entry(action=action, user_id=user_id, ip_address=address))
    assert event["meta"]["profile"] == [
        f"https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.{profile}"
    ]
    assert_follows(event, profile)
    assert any(agent["requestor"] for agent in event["agent"])


@pytest.mark.parametrize(
    "values",
    [
        {"ip_address": None},
        {"action": "upload_create_failed"},
        {"action": "login_succeeded"},
        {"action": "system_down"},
    ],
)
def test_fhir_event_without_required_values_has_no_profile(values):
    assert "meta" not in exported(entry(**values))


@pytest.mark.parametrize(
    ("action", "code", "subtype", "outcome"),
    [
        ("report_viewed", "R", "read", "0"),
        ("user_updated", "U", "update", "0"),
        ("user_deleted", "D", "delete", "0"),
        ("upload_create_failed", "C", "create", "4"),
        ("login_succeeded", "E", "110122", "0"),
        ("failover_completed", "U", "update", "0"),
        ("login_failed", "E", "110122", "4"),
        ("logout", "E", "110123", "0"),
        ("system_down", "E", "system_down", "0"),
        (" system\t going  down ", "E", "system going down", "0"),
    ],
)
def test_fhir_codes_depend_on_the_action(action, code, subtype, outcome):
    event = exported(entry(action=action, user_id=None))
    assert (event["action"], event["subtype"][0]["code"]) == (code, subtype)
    assert event["outcome"] == outcome


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(action=TEXT, resource_type=TEXT, resource_id=TEXT, user_agent=TEXT, inner=TEXT)
def test_fhir_event_of_any_entry_is_valid(action, resource_type, resource_id, user_agent, inner):
    made = entry(
        action=action,
        resource_type=resource_type,
        resource_id=resource_id,
        user_agent=user_agent,
        details={"inner": inner, inner: [1e22, None, {}]},
    )
    event = exported(made)
    assert json.loads(event["entity"][0]["detail"][0]["valueString"]) == made.details


@pytest.mark.parametrize("user_agent", ["Mozilla/5.0", ""])
def test_fhir_observer_of_posted_entries_is_the_client(user_agent):
    event = exported(entry(origin="client", user_agent=user_agent))
    assert event["source"]["observer"] == event["agent"][0]["who"]
    assert event["source"]["observer"] == {"display": user_agent or "unknown"}
    assert event["source"]["type"][0]["code"] == "1"
    assert_follows(event, "Create")


@pytest.mark.parametrize("origin", ["server", "import", None])
def test_fhir_observer_of_other_entries_is_this_system(origin):
    event = exported(entry(origin=origin))
    assert event["source"]["observer"] == {"display": "clinic.example"}


@pytest.mark.parametrize("origin", ["client", "server", "import", None])
def test_fhir_event_has_the_origin(origin):
    event = exported(entry(origin=origin, details={}))
    expected = [{"type": "origin", "valueString": origin}] if origin else []
    assert event["entity"][0].get("detail", []) == expected


@pytest.mark.django_db
def test_fhir_export_has_one_event_per_line(write, user):
    made = write(ip_address="192.168.1.100", timestamp=MOMENT, details={"a": 1})
    write(action="login_failed", user=None, details={})
    output = StringIO()
    call_command("audit_export", "--format", "fhir", "--observer", "c.example", stdout=output)
    event, failed = (json.loads(line) for line in output.getvalue().splitlines())
    for found in (event, failed):
        AuditEvent.model_validate(found)
    assert_follows(event, "Create")
    assert event["id"] == f"audit-{made.pk}"
    assert event["recorded"] == "2025-08-19T15:45:30.123000Z"
    client, server, user_agent = event["agent"]
    assert client["network"] == {"address": "192.168.1.100", "type": "2"}
    assert server["who"] == event["source"]["observer"] == {"display": "c.example"}
    assert user_agent["who"]["identifier"]["value"] == str(user.pk)
    (entity,) = event["entity"]
    assert entity["what"]["identifier"] == {"type": {"text": "upload"}, "value": "upload_001"}
    assert entity["detail"][0]["valueString"] == '{"a": 1}'


def entities(event, code):
    system = CODES + "audit-entity-type"
    return [e for e in event["entity"] if "type" in e and coding(e["type"]) == (system, code)]


@pytest.mark.parametrize(
    ("action", "profile"),
    [
        ("upload_created", "Create"),
        ("report_viewed", "Read"),
        ("user_updated", "Update"),
        ("user_deleted", "Delete"),
    ],
)
def test_fhir_event_with_a_data_subject_follows_the_patients_profile(action, profile):
    event = exported(entry(action=action, data_subject="P-1042"))
    assert event["meta"]["profile"] == [
        f"https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.Patient{profile}"
    ]
    assert_follows(event, profile)
    assert_names_patient(event, "P-1042")


def assert_names_patient(event, data_subject):
    (patient,) = entities(event, "1")
    assert coding(patient["role"]) == (CODES + "object-role", "1")
    assert patient["what"] == {"type": "Patient", "identifier": {"value": data_subject}}


@pytest.mark.parametrize("data_subject", ["", "P-1042"])
def test_fhir_event_of_a_search_follows_the_query_profile(data_subject):
    made = entry(
        action="patient_listed", data_subject=data_subject, details={"query": "/patients?name=Ünal"}
    )
    event = exported(made)
    profile = "PatientQuery" if data_subject else "Query"
    assert event["meta"]["profile"][0].endswith(f"IHE.BasicAudit.{profile}")
    assert [coding(subtype) for subtype in event["subtype"]] == [
        ("http://hl7.org/fhir/restful-interaction", "search")
    ]
    assert (event["action"], event["outcome"]) == ("E", "0")
    parts = {coding(agent["type"]): agent for agent in event["agent"]}
    assert set(parts) == {SOURCE, DESTINATION, RECIPIENT}
    assert all(parts[part]["network"]["address"] for part in (SOURCE, DESTINATION))
    (query,) = entities(event, "2")
    assert coding(query["role"]) == (CODES + "object-role", "24")
    assert not {"what", "lifecycle", "detail"} & set(query)
    assert b64decode(query["query"]).decode() == "/patients?name=Ünal"
    if data_subject:
        assert_names_patient(event, data_subject)


@pytest.mark.parametrize("details", [{}, {"query": ""}, {"query": ["name"]}])
def test_fhir_event_of_a_search_without_its_text_has_no_profile(details):
    event = exported(entry(action="patient_listed", data_subject="P-1042", details=details))
    assert "meta" not in event
    assert_names_patient(event, "P-1042")


@pytest.mark.parametrize(
    ("purpose", "expected"),
    [
        ("TREAT", {"coding": [{"system": CODES + "v3-ActReason", "code": "TREAT"}]}),
        ("quality assurance", {"text": "quality assurance"}),
    ],
)
def test_fhir_event_has_the_purpose(purpose, expected):
    (found,) = exported(entry(purpose=purpose))["purposeOfEvent"]
    for code in found.get("coding", []):
        del code["display"]
    assert found == expected


def test_fhir_event_has_the_legal_basis():
    detail = exported(entry(legal_basis="GDPR 9(2)(h)", details={}))["entity"][0]["detail"]
    assert detail == [{"type": "legal_basis", "valueString": "GDPR 9(2)(h)"}]


def test_fhir_outcome_of_a_refused_access_is_serious():
    event = exported(entry(action="report_view_refused", data_subject="P-1042"))
    assert event["outcome"] == "8"
    assert "meta" not in event
