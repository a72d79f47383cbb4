"""Streams' syslog formats: RFC 5424 with JSON, and CEF."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from stream_messages import (
    ENTRIES,
    LARGE,
    MOMENT,
    PICTURES,
    SOURCE,
    SOURCES,
    make_entry,
    parse_cef,
    parse_syslog,
    user_text,
    visible,
    whole_milliseconds_since_1970,
)

from myometrics_audit import __version__
from myometrics_audit.streams.formats import FORMATS, Source

SD_ID = "myometrics@32473"
SYSLOG_FORMATS = ("dicom", "rfc5424", "cef")


@pytest.mark.parametrize("name", SYSLOG_FORMATS)
@given(entry=ENTRIES, source=SOURCES)
def test_syslog_message_of_any_entry_follows_rfc_5424(name, entry, source):
    message = parse_syslog(FORMATS[name](entry, source))
    assert message.timestamp == entry.timestamp
    for field, text, length in (
        (message.host, source.host, 255),
        (message.application, source.application, 48),
        (message.process_id, source.process_id, 128),
    ):
        expected = "".join(c if "!" <= c <= "~" else "_" for c in text)[:length]
        assert field == (expected or "-")


@pytest.mark.parametrize(
    ("name", "action", "priority"),
    [
        ("dicom", "patient_viewed", 85),
        ("dicom", "login_failed", 84),
        ("dicom", "refresh_token_reused", 84),
        ("rfc5424", "patient_viewed", 109),
        ("rfc5424", "access_refused", 108),
        ("rfc5424", "refresh_token_reused", 105),
        ("cef", "patient_viewed", 109),
        ("cef", "login_failed", 108),
        ("cef", "emergency_access_granted", 105),
    ],
)
def test_syslog_priority_is_facility_and_severity(name, action, priority):
    message = FORMATS[name](make_entry(action=action), SOURCE)
    assert message.startswith(b"<%d>1 2025-08-19T15:45:30.123Z app1.clinic.example " % priority)


@pytest.mark.parametrize(
    ("name", "message_id"),
    [("dicom", "IHE+RFC-3881"), ("rfc5424", "patient_viewed"), ("cef", "patient_viewed")],
)
def test_syslog_message_has_its_message_id(name, message_id):
    assert parse_syslog(FORMATS[name](make_entry(), SOURCE)).message_id == message_id


@pytest.mark.parametrize("name", SYSLOG_FORMATS)
def test_syslog_fields_without_value_are_nil(name):
    message = FORMATS[name](make_entry(), Source("", "", "", ""))
    assert message.split(b" ")[2:5] == [b"-", b"-", b"-"]


@pytest.mark.parametrize("name", SYSLOG_FORMATS)
def test_syslog_fields_are_cut_and_cleaned(name):
    source = Source(host="klinik-münchen " + "h" * 300, application="a b" * 30, process_id="\n")
    message = parse_syslog(FORMATS[name](make_entry(action="ä" * 50), source))
    assert message.host == ("klinik-m_nchen_" + "h" * 300)[:255]
    assert message.application == ("a_b" * 30)[:48]
    assert message.process_id == "_"
    assert message.message_id in {"IHE+RFC-3881", "_" * 32}


@pytest.mark.parametrize("name", SYSLOG_FORMATS)
@pytest.mark.parametrize("details", [{}, LARGE, {"a": "\n\r\t\x01\x1b\x7f\x85"}])
def test_syslog_message_is_one_line(name, details):
    entry = make_entry(details=details, resource_id="1\r\n<13>1 - - - - - - forged")
    message = FORMATS[name](entry, SOURCE)
    assert b"\n" not in message
    assert b"\r" not in message
    parse_syslog(message)


@given(entry=ENTRIES, source=SOURCES)
def test_rfc5424_text_is_json_with_all_facts(entry, source):
    message = parse_syslog(FORMATS["rfc5424"](entry, source))
    assert (message.facility, message.has_bom) == (13, False)
    assert json.loads(message.text) == json.loads(FORMATS["json"](entry, source))


@given(entry=ENTRIES, source=SOURCES)
def test_rfc5424_structured_data_has_the_facts(entry, source):
    data = parse_syslog(FORMATS["rfc5424"](entry, source)).data
    assert data["origin"] == {"software": "myometrics-audit", "swVersion": __version__}
    expected = {
        "id": str(entry.pk),
        "action": visible(entry.action),
        "user": user_text(entry),
        "resourceType": visible(entry.resource_type),
        "resourceId": visible(entry.resource_id),
        "dataSubject": visible(entry.data_subject or ""),
        "origin": entry.origin or "",
    }
    assert {name: data[SD_ID].get(name, "") for name in expected} == expected
    assert data[SD_ID]["outcome"] in {"success", "failure"}


def test_rfc5424_structured_data_is_escaped():
    entry = make_entry(resource_id='a"]\\b')
    assert b'resourceId="a\\"\\]\\\\b"' in FORMATS["rfc5424"](entry, SOURCE)


def test_rfc5424_message_carries_large_details():
    message = parse_syslog(FORMATS["rfc5424"](make_entry(details=LARGE), SOURCE))
    assert json.loads(message.text)["details"] == LARGE


@given(entry=ENTRIES, source=SOURCES)
def test_cef_of_any_entry_has_the_facts(entry, source):
    message = parse_syslog(FORMATS["cef"](entry, source))
    header, extension = parse_cef(message.text)
    assert header[:4] == [
        "0",
        "MyoMetrics",
        visible(source.application) or "myometrics-audit",
        __version__,
    ]
    assert header[4] == visible(entry.action)
    assert 0 <= int(header[6]) <= 10
    expected = {
        "externalId": str(entry.pk),
        "rt": str(whole_milliseconds_since_1970(entry.timestamp)),
        "act": entry.action,
        "suid": user_text(entry),
        "requestClientApplication": entry.user_agent,
        "dvchost": source.host,
        "MyoMetricsAuditPseudonym": entry.pseudonym,
        "MyoMetricsAuditSite": source.site_id,
        **{f"cs{number}": text or "" for number, text in enumerate(custom_strings(entry), 1)},
    }
    for name, text in expected.items():
        assert extension.get(name, "") == visible(text, keep="\n\r"), name
    assert json.loads(extension.get("MyoMetricsAuditDetails", "{}")) == entry.details
    assert extension.get("src", extension.get("c6a2")) == entry.ip_address


def custom_strings(entry):
    return (
        entry.resource_type,
        entry.resource_id,
        entry.data_subject,
        entry.purpose,
        entry.legal_basis,
        entry.origin,
    )


def test_cef_escapes_header_and_extension():
    entry = make_entry(action="a|b\\c=d", resource_id="x=1|y\\z\n2", user_agent="")
    message = FORMATS["cef"](entry, SOURCE).decode()
    assert "|a\\|b\\\\c=d|" in message
    assert "cs2=x\\=1|y\\\\z\\n2 cs2Label=resourceId" in message


def test_cef_can_not_be_extended_by_values():
    entry = make_entry(resource_id="1 suid=root outcome=success")
    _, extension = parse_cef(parse_syslog(FORMATS["cef"](entry, SOURCE)).text)
    assert extension["cs2"] == "1 suid=root outcome=success"
    assert extension["suid"] == "3f1c"


@pytest.mark.parametrize(
    ("address", "fields"),
    [
        ("192.0.2.7", {"src": "192.0.2.7"}),
        ("2001:db8::7", {"c6a2": "2001:db8::7", "c6a2Label": "Source IPv6 Address"}),
        (None, {}),
    ],
)
def test_cef_address_has_the_field_of_its_version(address, fields):
    entry = make_entry(ip_address=address)
    _, extension = parse_cef(parse_syslog(FORMATS["cef"](entry, SOURCE)).text)
    found = {name: text for name, text in extension.items() if name in {"src", "c6a2", "c6a2Label"}}
    assert found == fields


@pytest.mark.parametrize(
    ("action", "severity", "outcome"),
    [
        ("patient_viewed", "3", "success"),
        ("login_failed", "6", "failure"),
        ("access_refused", "6", "failure"),
        ("refresh_token_reused", "9", "success"),
    ],
)
def test_cef_severity_depends_on_the_event(action, severity, outcome):
    message = parse_syslog(FORMATS["cef"](make_entry(action=action), SOURCE))
    header, extension = parse_cef(message.text)
    assert (header[6], extension["outcome"]) == (severity, outcome)


def test_cef_user_agent_has_at_most_1023_characters():
    message = parse_syslog(FORMATS["cef"](make_entry(user_agent="é" * 2000), SOURCE))
    _, extension = parse_cef(message.text)
    assert extension["requestClientApplication"] == "é" * 1023
    assert message.has_bom


@pytest.mark.parametrize("character", [chr(code) for code in PICTURES if chr(code) not in "\n\r"])
def test_control_characters_are_visible(character):
    entry = make_entry(resource_id=f"a{character}b")
    expected = f"a{visible(character)}b"
    data = parse_syslog(FORMATS["rfc5424"](entry, SOURCE)).data
    assert data[SD_ID]["resourceId"] == expected
    _, extension = parse_cef(parse_syslog(FORMATS["cef"](entry, SOURCE)).text)
    assert extension["cs2"] == expected


MOMENTS = [(MOMENT, "2025-08-19T15:45:30.123Z"), (MOMENT.replace(microsecond=0), "…30.000Z")]


@pytest.mark.parametrize(("moment", "expected"), MOMENTS)
def test_syslog_time_has_milliseconds(moment, expected):
    message = FORMATS["rfc5424"](make_entry(timestamp=moment), SOURCE).decode()
    assert message.split(" ")[1].endswith(expected.removeprefix("…"))
