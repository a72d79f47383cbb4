"""Entries for the tests of stream formats, and strict parsers of what they render."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from myometrics_audit.models import AuditLog
from myometrics_audit.streams.formats import Source

MOMENT = datetime(2025, 8, 19, 15, 45, 30, 123000, tzinfo=timezone.utc)
SOURCE = Source(
    host="app1.clinic.example", application="portal", site_id="Clinic Nord", process_id="4711"
)
AGENT = "Mozilla/5.0 (X11; Linux x86_64) Firefox/142.0"


def make_entry(**values: Any) -> AuditLog:
    """Return an unsaved entry: a patient's record was viewed."""
    fields = {
        "user_id": "3f1c",
        "action": "patient_viewed",
        "resource_type": "clinic.patient",
        "resource_id": "17",
        "timestamp": MOMENT,
        "ip_address": "192.0.2.7",
        "user_agent": AGENT,
        "details": {"fields": ["name", "birthday"]},
        "origin": "server",
        "data_subject": "P-1042",
        "purpose": "TREAT",
        "legal_basis": "GDPR 9(2)(h)",
    }
    return AuditLog(**{"pk": 7, **fields, **values})


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
NASTY = st.text(st.sampled_from("a b\\\"]=|<>&'\n\r\t\x01\x1b\x7f\x85\u2028\ufffe\U0001f600é-_"))
ANY_TEXT = TEXT | NASTY.map(lambda text: text[:40])
DETAILS = st.dictionaries(
    ANY_TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | ANY_TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
ACTIONS = st.sampled_from(
    [
        "login_succeeded",
        "login_failed",
        "logout",
        "patient_viewed",
        "patient_listed",
        "data_exported",
        "log_imported",
        "audit_log_read",
        "password_changed",
        "user_created",
        "upload_create_failed",
        "access_refused",
        "emergency_access_granted",
        "refresh_token_reused",
        "system_down",
    ]
)


def _not_empty(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return texts.map(lambda text: text or "x")


ENTRIES = st.builds(
    make_entry,
    pk=st.integers(1, 2**63 - 1),
    user_id=st.none() | st.integers(1, 2**63 - 1) | st.uuids(),
    pseudonym=st.just("") | st.text("0123456789abcdef", min_size=32, max_size=32),
    action=ACTIONS | _not_empty(ANY_TEXT),
    resource_type=st.sampled_from(["user", "clinic.patient", "audit_log"]) | _not_empty(ANY_TEXT),
    resource_id=_not_empty(ANY_TEXT),
    timestamp=st.datetimes(timezones=st.just(timezone.utc)).map(
        lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    ),
    ip_address=st.none() | st.ip_addresses().map(str),
    user_agent=ANY_TEXT,
    details=DETAILS,
    origin=st.sampled_from([None, "client", "server", "import"]),
    data_subject=st.none() | ANY_TEXT,
    purpose=st.none() | ANY_TEXT,
    legal_basis=st.none() | ANY_TEXT,
    activity_id=st.none() | ANY_TEXT,
)
"""Any entry that can be stored."""

SOURCES = st.builds(
    Source, host=ANY_TEXT, application=ANY_TEXT, site_id=ANY_TEXT, process_id=ANY_TEXT
)

LARGE = {"text": '\U0001f600"\\]\n=|' * 4000 + "é" * 6000}
"""Details of nearly 64 KiB."""

PICTURES = {code: chr(0x2400 + code) for code in range(32)} | {0x7F: "␡", 0xFFFE: "�", 0xFFFF: "�"}


def visible(text: str, keep: str = "") -> str:
    """Return ``text`` as the formats show its control characters."""
    return "".join(c if c in keep else PICTURES.get(ord(c), c) for c in text)


def user_text(entry: AuditLog) -> str:
    """Return the expected user of an entry."""
    return entry.pseudonym if entry.user_id is None else str(entry.user_id)


@dataclass
class SyslogMessage:
    """A parsed message."""

    facility: int
    severity: int
    timestamp: datetime
    host: str
    application: str
    process_id: str
    message_id: str
    data: dict[str, dict[str, str]]
    has_bom: bool
    text: str


_HEADER = re.compile(
    rb"<(0|[1-9]\d{0,2})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z)"
    rb" ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) "
)
_NAME = re.compile(r"(?:(?![=\]\"])[!-~]){1,32}")
_PARAMETER = re.compile(
    r' (?P<name>(?:(?![=\]"])[!-~]){1,32})="(?P<value>(?:[^"\\\]]|\\["\\\]])*)"'
)


def parse_syslog(message: bytes) -> SyslogMessage:
    """Parse a message by the grammar of RFC 5424, section 6; raise ``ValueError``."""
    header = _HEADER.match(message)
    if not header or int(header[1]) > 191:
        raise ValueError("header")
    # Decoding refuses malformed UTF-8; structured data and text are UTF-8 or ASCII.
    data, rest = _structured_data(message[header.end() :].decode())
    if not rest.startswith(" "):
        raise ValueError("a space precedes the text")
    text = rest[1:]
    has_bom = text.startswith("\ufeff")
    if not has_bom and not text.isascii():
        raise ValueError("UTF-8 without a byte order mark")
    priority = int(header[1])
    host, application, process_id, message_id = (header[n].decode() for n in range(3, 7))
    return SyslogMessage(
        facility=priority // 8,
        severity=priority % 8,
        timestamp=datetime.fromisoformat(header[2].decode().replace("Z", "+00:00")),
        host=host,
        application=application,
        process_id=process_id,
        message_id=message_id,
        data=data,
        has_bom=has_bom,
        text=text[1:] if has_bom else text,
    )


def _structured_data(text: str) -> tuple[dict[str, dict[str, str]], str]:
    if text.startswith("-"):
        return {}, text[1:]
    elements: dict[str, dict[str, str]] = {}
    while text.startswith("["):
        name = _NAME.match(text, 1)
        if not name or name[0] in elements:
            raise ValueError("the name of an element")
        at, parameters = name.end(), {}
        while found := _PARAMETER.match(text, at):
            parameters[found["name"]] = re.sub(r"\\(.)", r"\1", found["value"])
            at = found.end()
        if text[at : at + 1] != "]":
            raise ValueError(f"an element at {text[at : at + 20]!r}")
        elements[name[0]], text = parameters, text[at + 1 :]
    if not elements:
        raise ValueError("structured data")
    return elements, text


def parse_cef(text: str) -> tuple[list[str], dict[str, str]]:
    """Parse a message of the Common Event Format: the header's fields, and the extension."""
    header = re.fullmatch(r"CEF:(0(?:\|(?:[^|\\\n\r]|\\[|\\])*){6})\|([^\n\r]*)", text)
    if not header:
        raise ValueError("header")
    fields = re.finditer(r"(?:^|\|)((?:[^|\\]|\\[|\\])*)", header[1])
    return [re.sub(r"\\(.)", r"\1", field[1]) for field in fields], _parse_extension(header[2])


def _parse_extension(text: str) -> dict[str, str]:
    pair = re.compile(
        r"([A-Za-z][A-Za-z0-9]*)=((?:[^=\\]|\\[=\\nr])*?)(?= [A-Za-z][A-Za-z0-9]*=|$)"
    )
    values: dict[str, str] = {}
    at = 0
    while at < len(text):
        found = pair.match(text, at)
        if not found or found[1] in values:
            raise ValueError(f"an extension at {text[at : at + 30]!r}")
        values[found[1]] = re.sub(
            r"\\(.)", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), found[2]
        )
        at = found.end() + 1
    return values


def whole_milliseconds_since_1970(moment: datetime) -> int:
    """Return the time of an event as CEF and OCSF have it."""
    return (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(milliseconds=1)
