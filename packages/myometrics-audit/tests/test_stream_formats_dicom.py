"""Streams' DICOM audit messages follow PS3.15 A.5, and IHE's rules for syslog."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest
from hypothesis import given
from lxml import etree
from stream_messages import (
    AGENT,
    ENTRIES,
    LARGE,
    SOURCE,
    SOURCES,
    make_entry,
    parse_syslog,
    user_text,
    visible,
)

from myometrics_audit.streams.formats import FORMATS, Source

SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).with_name("dicom_audit_message.rng")))


def document(entry, source=SOURCE):
    """The audit message of an entry, after a check of the whole message."""
    message = parse_syslog(FORMATS["dicom"](entry, source))
    assert (message.facility, message.message_id, message.has_bom) == (10, "IHE+RFC-3881", True)
    assert message.data == {}
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    root = etree.fromstring(message.text.encode(), parser)
    SCHEMA.assertValid(root)
    return root


def code(element):
    return element.get("codeSystemName"), element.get("csd-code")


def details(root):
    """The details of the first object."""
    found = root.find("ParticipantObjectIdentification").findall("ParticipantObjectDetail")
    return {one.get("type"): b64decode(one.get("value"), validate=True).decode() for one in found}


@given(entry=ENTRIES, source=SOURCES)
def test_dicom_message_of_any_entry_is_valid_and_has_the_facts(entry, source):
    root = document(entry, source)
    event = root.find("EventIdentification")
    assert event.get("EventDateTime") == entry.timestamp.isoformat(timespec="milliseconds").replace(
        "+00:00", "Z"
    )
    kept = "\t\n\r"
    own_code = event.findall("EventTypeCode")[-1]
    assert code(own_code) == ("99MYOMETRICS", visible(entry.action, kept))
    requestors = [
        one for one in root.findall("ActiveParticipant") if one.get("UserIsRequestor") == "true"
    ]
    (requestor,) = requestors
    application = source.application or source.host or "unknown"
    if user_text(entry) or entry.ip_address:
        assert requestor.get("UserID") == (user_text(entry) or "anonymous")
        assert requestor.get("NetworkAccessPointID") == entry.ip_address
    else:
        assert requestor.get("UserID") == visible(application, kept)
    resource, *patients = root.findall("ParticipantObjectIdentification")
    assert resource.get("ParticipantObjectID") == visible(entry.resource_id, kept)
    assert [one.get("ParticipantObjectID") for one in patients] == [
        visible(subject, kept) for subject in [entry.data_subject] if subject
    ]
    found = details(root)
    assert json.loads(found.pop("details", "{}")) == entry.details
    assert found == {
        name: text
        for name, text in {
            "entry": str(entry.pk),
            "origin": entry.origin,
            "purpose": entry.purpose,
            "legal_basis": entry.legal_basis,
            "user_agent": entry.user_agent,
        }.items()
        if text
    }


def test_dicom_message_of_a_viewed_patient():
    root = document(make_entry())
    event = root.find("EventIdentification")
    assert (event.get("EventActionCode"), event.get("EventOutcomeIndicator")) == ("R", "0")
    assert code(event.find("EventID")) == ("DCM", "110110")
    user, application = root.findall("ActiveParticipant")
    assert dict(user.attrib) == {
        "UserID": "3f1c",
        "UserIsRequestor": "true",
        "NetworkAccessPointID": "192.0.2.7",
        "NetworkAccessPointTypeCode": "2",
    }
    assert dict(application.attrib) == {
        "UserID": "portal",
        "AlternativeUserID": "4711",
        "UserIsRequestor": "false",
        "NetworkAccessPointID": "app1.clinic.example",
        "NetworkAccessPointTypeCode": "1",
    }
    source = root.find("AuditSourceIdentification")
    assert dict(source.attrib) == {
        "AuditEnterpriseSiteID": "Clinic Nord",
        "AuditSourceID": "app1.clinic.example",
    }
    assert source.find("AuditSourceTypeCode").get("csd-code") == "4"
    resource, patient = root.findall("ParticipantObjectIdentification")
    assert dict(patient.attrib) == {
        "ParticipantObjectID": "P-1042",
        "ParticipantObjectTypeCode": "1",
        "ParticipantObjectTypeCodeRole": "1",
    }
    assert code(patient.find("ParticipantObjectIDTypeCode")) == ("RFC-3881", "2")
    assert resource.get("ParticipantObjectTypeCode") == "2"
    assert resource.get("ParticipantObjectDataLifeCycle") == "6"
    assert details(root) == {
        "entry": "7",
        "origin": "server",
        "purpose": "TREAT",
        "legal_basis": "GDPR 9(2)(h)",
        "user_agent": AGENT,
        "details": '{"fields": ["name", "birthday"]}',
    }


@pytest.mark.parametrize(
    ("action", "resource_type", "event", "types", "action_code", "outcome"),
    [
        ("login_succeeded", "session", "110114", ["110122"], "E", "0"),
        ("login_failed", "user", "110114", ["110122"], "E", "4"),
        ("logout", "session", "110114", ["110123"], "E", "0"),
        ("session_ended", "session", "110114", ["110123"], "E", "0"),
        ("patient_created", "clinic.patient", "110110", [], "C", "0"),
        ("patient_updated", "clinic.patient", "110110", [], "U", "0"),
        ("patient_deleted", "clinic.patient", "110110", [], "D", "0"),
        ("patient_access_refused", "clinic.patient", "110100", [], "E", "8"),
        ("patient_listed", "clinic.patient", "110112", [], "E", "0"),
        ("data_exported", "user", "110106", [], "R", "0"),
        ("log_imported", "log", "110107", [], "C", "0"),
        ("audit_log_read", "audit_log", "110101", [], "R", "0"),
        ("password_changed", "user", "110113", ["110137"], "E", "0"),
        ("role_changed", "user", "110113", ["110136"], "E", "0"),
        ("refresh_token_reused", "session", "110113", [], "E", "0"),
        ("finding_opened", "finding", "110113", [], "E", "0"),
        ("patient_restored", "clinic.patient", "110110", [], "U", "0"),
        ("patient_soft_deleted", "clinic.patient", "110110", [], "D", "0"),
        ("emergency_access_granted", "clinic.patient", "110113", ["110127"], "E", "0"),
        ("emergency_access_expired", "clinic.patient", "110113", ["110138"], "E", "0"),
        ("system_down", "service", "110100", [], "E", "0"),
    ],
)
def test_dicom_codes_depend_on_the_action(
    action, resource_type, event, types, action_code, outcome
):
    root = document(make_entry(action=action, resource_type=resource_type))
    found = root.find("EventIdentification")
    assert code(found.find("EventID")) == ("DCM", event)
    *dicom_types, own = found.findall("EventTypeCode")
    assert [code(one) for one in dicom_types] == [("DCM", known) for known in types]
    assert code(own) == ("99MYOMETRICS", action)
    assert found.get("EventActionCode") == action_code
    assert found.get("EventOutcomeIndicator") == outcome
    assert (found.find("EventOutcomeDescription") is not None) == (outcome != "0")


def test_dicom_record_without_data_subject_is_an_activity():
    root = document(make_entry(data_subject="", action="report_updated"))
    event = root.find("EventIdentification")
    assert code(event.find("EventID")) == ("DCM", "110100")
    assert event.get("EventActionCode") == "U"
    assert len(root.findall("ParticipantObjectIdentification")) == 1


def test_dicom_erased_user_has_the_pseudonym():
    root = document(make_entry(user_id=None, pseudonym="0f" * 16))
    user = root.find("ActiveParticipant")
    assert user.get("UserID") == "0f" * 16
    assert user.get("UserName") == "erased user (pseudonym)"


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
def test_dicom_anonymous_user_has_the_address(address):
    user = document(make_entry(user_id=None, ip_address=address)).find("ActiveParticipant")
    assert user.get("UserID") == "anonymous"
    assert user.get("NetworkAccessPointID") == address
    assert user.get("NetworkAccessPointTypeCode") == "2"
    assert user.get("UserName") is None


def test_dicom_requestor_without_user_and_address_is_the_application():
    (application,) = document(make_entry(user_id=None, ip_address=None)).findall(
        "ActiveParticipant"
    )
    assert (application.get("UserID"), application.get("UserIsRequestor")) == ("portal", "true")


@pytest.mark.parametrize(
    ("origin", "source_type"), [("client", "1"), ("import", "9"), ("server", "4"), (None, "4")]
)
def test_dicom_source_type_marks_claims_of_clients(origin, source_type):
    root = document(make_entry(origin=origin, user_agent="other.clinic.example"))
    source = root.find("AuditSourceIdentification")
    assert source.find("AuditSourceTypeCode").get("csd-code") == source_type
    assert source.get("AuditSourceID") == "app1.clinic.example"
    assert details(root).get("origin") == origin


def test_dicom_roles_of_an_export():
    root = document(make_entry(action="data_exported"))
    roles = [one.find("RoleIDCode").get("csd-code") for one in root.findall("ActiveParticipant")]
    assert roles == ["110152", "110153"]
    resource = root.find("ParticipantObjectIdentification")
    assert resource.get("ParticipantObjectDataLifeCycle") == "10"


def test_dicom_soft_deletion_is_a_logical_deletion():
    root = document(make_entry(action="patient_soft_deleted"))
    resource = root.find("ParticipantObjectIdentification")
    assert resource.get("ParticipantObjectDataLifeCycle") == "14"


@pytest.mark.parametrize("resource_type", ["user", "auth.user", "clinic_site.person"])
def test_dicom_resource_that_is_a_user_is_a_person(resource_type, settings):
    assert settings.AUTH_USER_MODEL == "clinic_site.Person"
    root = document(make_entry(resource_type=resource_type))
    resource = root.find("ParticipantObjectIdentification")
    assert resource.get("ParticipantObjectTypeCode") == "1"
    assert code(resource.find("ParticipantObjectIDTypeCode")) == ("RFC-3881", "11")


def test_dicom_message_without_a_source_is_valid():
    root = document(make_entry(), Source("", "", "", ""))
    assert root.find("AuditSourceIdentification").get("AuditSourceID") == "unknown"


def test_dicom_host_that_is_an_address_has_its_type():
    root = document(make_entry(), Source(host="2001:db8::1", application="portal"))
    application = root.findall("ActiveParticipant")[1]
    assert application.get("NetworkAccessPointTypeCode") == "2"


def test_dicom_message_carries_large_details():
    assert json.loads(details(document(make_entry(details=LARGE)))["details"]) == LARGE


@pytest.mark.parametrize("text", ["a\nb\tc\rd", "&<>\"'", "]]>", "<!DOCTYPE x>", "\U0001f600"])
def test_dicom_attributes_keep_markup_and_white_space(text):
    resource = document(make_entry(resource_id=text)).find("ParticipantObjectIdentification")
    assert resource.get("ParticipantObjectID") == text
