"""Streams' JSON formats: OCSF, ECS, FHIR, and the API's."""

from __future__ import annotations

import json
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from hypothesis import given
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from stream_messages import (
    AGENT,
    ENTRIES,
    LARGE,
    SOURCE,
    SOURCES,
    make_entry,
    user_text,
    whole_milliseconds_since_1970,
)

from myometrics_audit.streams.formats import FORMATS, Source

ACTIONS = [
    ("login_succeeded", "session"),
    ("login_failed", "user"),
    ("logout", "session"),
    ("patient_viewed", "clinic.patient"),
    ("patient_listed", "clinic.patient"),
    ("patient_deleted", "clinic.patient"),
    ("access_refused", "clinic.patient"),
    ("data_exported", "user"),
    ("password_changed", "user"),
    ("user_created", "user"),
    ("passkey_added", "passkey"),
    ("refresh_token_reused", "session"),
    ("emergency_access_granted", "clinic.patient"),
    ("audit_log_read", "audit_log"),
    ("system_down", "service"),
]


def rendered(name, entry, source=SOURCE):
    return json.loads(FORMATS[name](entry, source))


@lru_cache
def ocsf_validator(version, class_uid):
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=version))
    name = schema.lookup_class_name_from_uid(class_uid=class_uid)
    return Draft202012Validator(schema.get_class_schema(class_name=name, profiles=[]))


def ocsf(entry, source=SOURCE, version="1.4.0"):
    """The event of an entry, after validation with OCSF's own schema."""
    event = rendered("ocsf", entry, source)
    assert event["metadata"]["version"] == "1.4.0"
    ocsf_validator(version, event["class_uid"]).validate(event)
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
    assert event["category_uid"] == event["class_uid"] // 1000
    return event


@given(entry=ENTRIES, source=SOURCES)
def test_ocsf_event_of_any_entry_is_valid_and_has_the_facts(entry, source):
    event = ocsf(entry, source)
    assert event["time"] == whole_milliseconds_since_1970(entry.timestamp)
    assert event["metadata"]["uid"] == str(entry.pk)
    assert event["metadata"]["event_code"] == entry.action
    actor = event["user"] if event["class_uid"] == 3002 else event["actor"]["user"]
    expected = user_text(entry)
    assert actor.get("uid", "") == expected
    assert actor.get("name") == (None if expected else "anonymous")
    assert event.get("src_endpoint", {}).get("ip") == entry.ip_address
    unmapped = event["unmapped"]
    assert json.loads(unmapped.pop("details", "{}")) == entry.details
    for name in ("resource_type", "resource_id", "data_subject", "purpose", "legal_basis"):
        assert unmapped.get(name, "") == (getattr(entry, name) or "")
    request = event.get("http_request", unmapped)
    assert request.get("user_agent", "") == entry.user_agent
    assert unmapped.get("origin") == entry.origin


@pytest.mark.parametrize("version", ["1.4.0", "1.5.0", "1.6.0", "1.7.0", "1.8.0"])
@pytest.mark.parametrize(("action", "resource_type"), ACTIONS)
@pytest.mark.parametrize("user_id", ["3f1c", None])
@pytest.mark.parametrize("address", ["2001:db8::7", None])
def test_ocsf_event_is_valid_in_later_versions(version, action, resource_type, user_id, address):
    entry = make_entry(
        action=action, resource_type=resource_type, user_id=user_id, ip_address=address
    )
    ocsf(entry, version=version)
    ocsf(entry, Source("", "", "", ""), version=version)


@pytest.mark.parametrize(
    ("values", "class_uid", "activity_id", "status_id", "severity_id"),
    [
        ({"action": "login_succeeded"}, 3002, 1, 1, 1),
        ({"action": "login_failed"}, 3002, 1, 2, 3),
        ({"action": "logout"}, 3002, 2, 1, 1),
        ({"action": "user_created", "resource_type": "user"}, 3001, 1, 1, 1),
        ({"action": "user_deleted", "resource_type": "user"}, 3001, 6, 1, 1),
        ({"action": "user_updated", "resource_type": "user"}, 3001, 99, 1, 1),
        ({"action": "password_changed", "resource_type": "user"}, 3001, 3, 1, 1),
        ({"action": "password_reset", "resource_type": "user"}, 3001, 4, 1, 1),
        ({"action": "second_factor_enabled", "resource_type": "user"}, 3001, 10, 1, 1),
        ({"action": "passkey_removed", "resource_type": "passkey"}, 3001, 11, 1, 1),
        ({"action": "patient_viewed"}, 6003, 2, 1, 1),
        ({"action": "patient_listed"}, 6003, 2, 1, 1),
        ({"action": "patient_created"}, 6003, 1, 1, 1),
        ({"action": "access_refused"}, 6003, 99, 2, 3),
        ({"action": "refresh_token_reused"}, 6003, 99, 1, 4),
        ({"action": "patient_updated", "ip_address": None}, 3004, 3, 1, 1),
        ({"action": "system_down", "ip_address": None}, 3004, 99, 1, 1),
    ],
)
def test_ocsf_class_depends_on_the_event(values, class_uid, activity_id, status_id, severity_id):
    event = ocsf(make_entry(**values))
    found = [event[name] for name in ("class_uid", "activity_id", "status_id", "severity_id")]
    assert found == [class_uid, activity_id, status_id, severity_id]


def test_ocsf_account_change_has_the_changed_account():
    event = ocsf(make_entry(action="user_deleted", resource_type="user", resource_id="99"))
    assert event["user"]["uid"] == "99"
    assert event["actor"]["user"]["uid"] == "3f1c"


def test_ocsf_api_activity_has_resource_and_data_subject():
    event = ocsf(make_entry())
    assert event["resources"] == [
        {"uid": "17", "type": "clinic.patient"},
        {"uid": "P-1042", "type": "data subject"},
    ]
    assert event["http_request"] == {"user_agent": AGENT}


@pytest.mark.parametrize(("origin", "is_claim"), [("client", True), ("server", False)])
def test_ocsf_and_ecs_mark_claims_of_clients(origin, is_claim):
    entry = make_entry(origin=origin)
    marks = ["reported-by-client"] if is_claim else None
    assert ocsf(entry)["metadata"].get("labels") == marks
    event = rendered("ecs", entry)
    assert event.get("tags") == marks
    assert event["labels"]["origin"] == origin


# Field → type, of ECS 8.11; "[]" is a list of the type.
ECS_FIELDS = {
    "@timestamp": "date",
    "message": "text",
    "tags": "keyword[]",
    "agent.type": "keyword",
    "agent.version": "keyword",
    "ecs.version": "keyword",
    "event.action": "keyword",
    "event.category": "keyword[]",
    "event.dataset": "keyword",
    "event.id": "keyword",
    "event.kind": "keyword",
    "event.module": "keyword",
    "event.outcome": "keyword",
    "event.provider": "keyword",
    "event.severity": "long",
    "event.type": "keyword[]",
    "host.hostname": "keyword",
    "host.name": "keyword",
    "organization.id": "keyword",
    "process.entity_id": "keyword",
    "related.ip": "ip[]",
    "related.user": "keyword[]",
    "service.name": "keyword",
    "service.type": "keyword",
    "source.ip": "ip",
    "user.id": "keyword",
    "user_agent.original": "keyword",
}
ECS_TYPES = {
    "api": {
        "access",
        "admin",
        "allowed",
        "change",
        "creation",
        "deletion",
        "denied",
        "end",
        "info",
        "start",
        "user",
    },
    "authentication": {"end", "info", "start"},
    "iam": {"admin", "change", "creation", "deletion", "group", "info", "user"},
}
"""event.category → the expected values of event.type."""


def flat(document, prefix=""):
    for name, value in document.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def has_type(value: Any, expected: str) -> bool:
    if expected.endswith("[]"):
        return bool(value) and all(has_type(one, expected[:-2]) for one in value)
    if expected == "long":
        return type(value) is int
    if expected == "ip":
        return bool(ip_address(value))
    return isinstance(value, str) and value != ""


def ecs(entry, source=SOURCE):
    """The event of an entry, after a check of its fields."""
    event = rendered("ecs", entry, source)
    for name, value in flat(event):
        if name.startswith("labels."):
            assert has_type(value, "keyword"), name
        elif not name.startswith("myometrics.audit."):
            assert has_type(value, ECS_FIELDS[name]), name
    (category,) = event["event"]["category"]
    assert set(event["event"]["type"]) <= ECS_TYPES[category]
    return event


@given(entry=ENTRIES, source=SOURCES)
def test_ecs_event_of_any_entry_has_known_fields_and_the_facts(entry, source):
    event = ecs(entry, source)
    assert event["event"]["action"] == entry.action
    assert event["event"]["id"] == str(entry.pk)
    assert event.get("user", {}).get("id", "") == user_text(entry)
    assert event.get("source", {}).get("ip") == entry.ip_address
    assert event.get("user_agent", {}).get("original", "") == entry.user_agent
    for name in ("data_subject", "purpose", "legal_basis", "origin"):
        assert event["labels"].get(name, "") == (getattr(entry, name) or "")
    own = event["myometrics"]["audit"]
    assert own["resource"] == {"type": entry.resource_type, "id": entry.resource_id}
    assert json.loads(own.get("details", "{}")) == entry.details


@pytest.mark.parametrize(
    ("action", "resource_type", "category", "types", "outcome"),
    [
        ("login_succeeded", "session", "authentication", ["start"], "success"),
        ("login_failed", "user", "authentication", ["start"], "failure"),
        ("logout", "session", "authentication", ["end"], "success"),
        ("refresh_token_reused", "session", "authentication", ["info"], "success"),
        ("user_created", "user", "iam", ["user", "creation"], "success"),
        ("password_changed", "user", "iam", ["user", "change"], "success"),
        ("emergency_access_granted", "clinic.patient", "iam", ["admin", "change"], "success"),
        ("patient_viewed", "clinic.patient", "api", ["access"], "success"),
        ("patient_listed", "clinic.patient", "api", ["access"], "success"),
        ("patient_created", "clinic.patient", "api", ["creation"], "success"),
        ("patient_updated", "clinic.patient", "api", ["change"], "success"),
        ("patient_deleted", "clinic.patient", "api", ["deletion"], "success"),
        ("access_refused", "clinic.patient", "api", ["info", "denied"], "failure"),
        ("data_exported", "user", "api", ["access"], "success"),
        ("audit_log_read", "audit_log", "api", ["access"], "success"),
        ("system_down", "service", "api", ["info"], "success"),
    ],
)
def test_ecs_category_depends_on_the_event(action, resource_type, category, types, outcome):
    event = ecs(make_entry(action=action, resource_type=resource_type))["event"]
    assert (event["category"], event["type"]) == ([category], types)
    assert event["outcome"] == outcome


def test_ecs_erased_user_has_the_pseudonym():
    event = ecs(make_entry(user_id=None, pseudonym="0f" * 16))
    assert event["user"] == {"id": "0f" * 16}
    assert event["labels"]["erased_user"] == "true"


def test_ecs_anonymous_entry_has_no_user():
    event = ecs(make_entry(user_id=None, ip_address=None))
    assert not {"user", "related", "source"} & set(event)


@given(entry=ENTRIES, source=SOURCES)
def test_json_of_any_entry_has_the_facts(entry, source):
    document = rendered("json", entry, source)
    for name in ("action", "resource_type", "resource_id", "ip_address", "user_agent", "details"):
        assert document[name] == getattr(entry, name)
    for name in ("data_subject", "purpose", "legal_basis"):
        assert document[name] == (getattr(entry, name) or "")
    assert (document["id"], document["origin"]) == (entry.pk, entry.origin)
    assert (document["pseudonym"], document["activity_id"]) == (entry.pseudonym, entry.activity_id)
    is_integer = isinstance(entry.user_id, int) or entry.user_id is None
    assert document["user_id"] == (entry.user_id if is_integer else str(entry.user_id))
    assert document["source"] == vars(source)


@given(entry=ENTRIES, source=SOURCES)
def test_fhir_resource_of_any_entry_is_valid(entry, source):
    event = rendered("fhir", entry, source)
    AuditEvent.model_validate(event)
    assert event["id"] == f"audit-{entry.pk}"


def test_fhir_resource_has_the_source():
    event = rendered("fhir", make_entry())
    assert event["source"]["observer"] == {"display": "app1.clinic.example"}
    assert event["source"]["site"] == "Clinic Nord"


@pytest.mark.parametrize("text", ["", " ", "\x85", "\x01"])
def test_fhir_resource_of_an_unnamed_source_is_valid(text):
    event = rendered("fhir", make_entry(), Source(text, text, text, text))
    AuditEvent.model_validate(event)
    assert event["source"]["observer"] == {"display": "unknown"}


def test_fhir_observer_of_a_claim_is_the_client():
    event = rendered("fhir", make_entry(origin="client"))
    assert event["source"]["observer"] == {"display": AGENT}
    assert event["source"]["type"][0]["code"] == "1"


@pytest.mark.parametrize("name", ["ocsf", "ecs", "json", "fhir"])
def test_json_formats_are_one_line_of_utf_8(name):
    entry = make_entry(details=LARGE, resource_id="a\nb\u2028")
    message = FORMATS[name](entry, SOURCE)
    assert b"\n" not in message
    assert json.loads(message.decode())


@pytest.mark.parametrize("name", FORMATS)
def test_formats_need_no_database(name):
    # Without the mark django_db any query fails.
    FORMATS[name](make_entry(user_id=None, pseudonym="0f" * 16), SOURCE)


@pytest.mark.parametrize("name", FORMATS)
def test_formats_replace_lone_surrogates(name):
    message = FORMATS[name](make_entry(resource_id="a\ud800b"), SOURCE)
    assert "a" in message.decode()
