"""DICOM audit messages of PS3.15 A.5 in syslog messages, as IHE's ATNA profile sends them."""

from __future__ import annotations

import json
from base64 import b64encode
from ipaddress import ip_address
from typing import Final

from myometrics_core.times import utc_text

from ...log.models import AuditLog
from ...sealing.export.interactions import INTERACTIONS, interaction_of, outcome_of, words_of
from .characters import VISIBLE_CONTROLS
from .events import Kind, in_words, is_account, kind_of, severity_of, user_of
from .source import Source
from .syslog import BOM, SECURITY, syslog_message

MESSAGE_ID: Final = "IHE+RFC-3881"
OWN_CODES: Final = "99MYOMETRICS"
"""The name of this package's code system; DICOM's private ones begin with 99."""
# IHE's ATNA profile sends audit messages with severity 5, and with 4 where it is appropriate.
SEVERITIES: Final = {"alert": 4, "failure": 4, "normal": 5}

_ATTRIBUTE: Final[dict[int, int | str]] = {
    **VISIBLE_CONTROLS,
    **{ord(c): f"&#{ord(c)};" for c in "\t\n\r"},
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord('"'): "&quot;",
}

Code = tuple[str, str]
"""A code of the system DCM, and its meaning."""
PATIENT_RECORD: Final = ("110110", "Patient Record")
ACTIVITY: Final = ("110100", "Application Activity")
ALERT: Final = ("110113", "Security Alert")
AUTHENTICATION: Final = ("110114", "User Authentication")
EVENTS: Final[dict[Kind, tuple[Code, str]]] = {
    "login": (AUTHENTICATION, "E"),
    "logout": (AUTHENTICATION, "E"),
    "emergency": (ALERT, "E"),
    "alert": (ALERT, "E"),
    "account": (ALERT, "E"),
    "audit_log": (("110101", "Audit Log Used"), "R"),
    "export": (("110106", "Export"), "R"),
    "import": (("110107", "Import"), "C"),
    "query": (("110112", "Query"), "E"),
    "activity": (ACTIVITY, "E"),
}
"""Kind → the codes of EventID and EventActionCode."""

APPLICATION: Final = ("110150", "Application")
SOURCE_ROLE: Final = ("110153", "Source Role ID")
DESTINATION_ROLE: Final = ("110152", "Destination Role ID")
ROLES: Final[dict[Kind, tuple[Code, Code]]] = {
    "export": (DESTINATION_ROLE, SOURCE_ROLE),
    "import": (SOURCE_ROLE, DESTINATION_ROLE),
    "query": (SOURCE_ROLE, DESTINATION_ROLE),
}
"""Kind → the RoleIDCodes of the user and of the application."""
LIFE_CYCLE: Final = {"create": "1", "read": "6", "update": "3", "delete": "15"}
SOURCE_TYPES: Final = {"client": "1", "import": "9", "server": "4"}
"""Origin → AuditSourceTypeCode: end-user interface, external source, application server."""


def render_dicom(entry: AuditLog, source: Source) -> bytes:
    """Render an entry as a syslog message with an audit message of DICOM."""
    return syslog_message(
        facility=SECURITY,
        severity=SEVERITIES[severity_of(entry.action, entry.resource_type)],
        moment=entry.timestamp,
        source=source,
        message_id=MESSAGE_ID,
        message=BOM + audit_message(entry, source),
    )


def audit_message(entry: AuditLog, source: Source) -> str:
    """Return the AuditMessage document of an entry."""
    kind = kind_of(entry.action, entry.resource_type)
    return "".join(
        (
            '<?xml version="1.0" encoding="UTF-8"?><AuditMessage>',
            _event(entry, kind),
            _participants(entry, source, kind),
            _audit_source(entry, source),
            _resource(entry, kind),
            _patient(entry),
            "</AuditMessage>",
        )
    )


def _event(entry: AuditLog, kind: Kind) -> str:
    code, action_code = EVENTS.get(kind) or _record_event(entry)
    outcome = outcome_of(entry.action)
    described = in_words(entry.action)
    types = "".join(_code("EventTypeCode", *known) for known in _event_types(entry, kind))
    failed = f"<EventOutcomeDescription>{_text(described)}</EventOutcomeDescription>"
    return (
        f'<EventIdentification EventActionCode="{action_code}"'
        f' EventDateTime="{utc_text(entry.timestamp, "milliseconds")}"'
        f' EventOutcomeIndicator="{outcome}">{_code("EventID", *code)}{types}'
        f"{_code('EventTypeCode', entry.action, described, OWN_CODES)}"
        f"{'' if outcome == '0' else failed}</EventIdentification>"
    )


def _record_event(entry: AuditLog) -> tuple[Code, str]:
    action_code = INTERACTIONS[interaction_of(entry.action) or "read"][0]
    return (PATIENT_RECORD if entry.data_subject else ACTIVITY), action_code


def _event_types(entry: AuditLog, kind: Kind) -> tuple[Code, ...]:
    if kind == "login":
        return (("110122", "Login"),)
    if kind == "logout":
        return (("110123", "Logout"),)
    words = words_of(entry.action)
    if kind == "emergency":
        has_ended = words & {"ended", "expired", "revoked", "stopped"}
        ended, started = ("110138", "Stopped"), ("110127", "Started")
        code, meaning = ended if has_ended else started
        return ((code, f"Emergency Override {meaning}"),)
    if kind == "account":
        if words & {"role", "permission", "permissions"}:
            return (("110136", "Security Roles Changed"),)
        return (("110137", "User Security Attributes Changed"),)
    return ()


def _participants(entry: AuditLog, source: Source, kind: Kind) -> str:
    user_role, application_role = ROLES.get(kind, (None, APPLICATION))
    user = user_of(entry)
    is_requestor = bool(user or entry.ip_address)
    name = "erased user (pseudonym)" if entry.user_id is None else ""
    requestor = (
        _participant(user, name if user else "", user_role, entry.ip_address)
        if is_requestor
        else ""
    )
    application = (
        f'<ActiveParticipant UserID="{_text(source.application or source.host or "unknown")}"'
        f"{_optional('AlternativeUserID', source.process_id)}"
        f' UserIsRequestor="{"false" if is_requestor else "true"}"{_network(source.host)}>'
        f"{_code('RoleIDCode', *application_role)}</ActiveParticipant>"
    )
    return requestor + application


def _participant(user: str, name: str, role: Code | None, address: str | None) -> str:
    return (
        f'<ActiveParticipant UserID="{_text(user or "anonymous")}"{_optional("UserName", name)}'
        f' UserIsRequestor="true"{_network(address)}>'
        f"{_code('RoleIDCode', *role) if role else ''}</ActiveParticipant>"
    )


def _network(host: str | None) -> str:
    if not host:
        return ""
    return (
        f' NetworkAccessPointID="{_text(host)}"'
        f' NetworkAccessPointTypeCode="{"2" if _is_address(host) else "1"}"'
    )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _audit_source(entry: AuditLog, source: Source) -> str:
    # Never the user agent of a claim: a client could take the name of another system.
    name = source.host or source.application or "unknown"
    return (
        f"<AuditSourceIdentification{_optional('AuditEnterpriseSiteID', source.site_id)}"
        f' AuditSourceID="{_text(name)}">'
        f'<AuditSourceTypeCode csd-code="{SOURCE_TYPES[entry.origin or "server"]}"/>'
        "</AuditSourceIdentification>"
    )


def _resource(entry: AuditLog, kind: Kind) -> str:
    if is_account(entry.resource_type):
        type_code, role = "1", "6"
        identifier = _code("ParticipantObjectIDTypeCode", "11", "User Identifier", "RFC-3881")
    else:
        type_code, role = "2", "13" if kind == "audit_log" else "4"
        name = entry.resource_type
        identifier = _code("ParticipantObjectIDTypeCode", name, name, OWN_CODES)
    life_cycle = _life_cycle(entry.action, kind)
    return (
        f'<ParticipantObjectIdentification ParticipantObjectID="{_text(entry.resource_id)}"'
        f' ParticipantObjectTypeCode="{type_code}" ParticipantObjectTypeCodeRole="{role}"'
        f"{_optional('ParticipantObjectDataLifeCycle', life_cycle)}>{identifier}"
        f"<ParticipantObjectName>{_text(entry.resource_type)}</ParticipantObjectName>"
        f"{_details(entry)}</ParticipantObjectIdentification>"
    )


def _life_cycle(action: str, kind: Kind) -> str:
    if kind in {"export", "import"}:
        return "10" if kind == "export" else "2"
    if "soft" in words_of(action):
        return "14"
    return LIFE_CYCLE.get(interaction_of(action) or "", "")


def _details(entry: AuditLog) -> str:
    details = {
        "entry": str(entry.pk),
        "origin": entry.origin,
        "purpose": entry.purpose,
        "legal_basis": entry.legal_basis,
        "user_agent": entry.user_agent,
        "details": json.dumps(entry.details, ensure_ascii=False) if entry.details else "",
    }
    return "".join(_detail(name, text) for name, text in details.items() if text)


def _detail(name: str, text: str) -> str:
    value = b64encode(text.encode("utf-8", "replace")).decode()
    return f'<ParticipantObjectDetail type="{name}" value="{value}"/>'


def _patient(entry: AuditLog) -> str:
    if not entry.data_subject:
        return ""
    subject = _text(entry.data_subject)
    return (
        f'<ParticipantObjectIdentification ParticipantObjectID="{subject}"'
        ' ParticipantObjectTypeCode="1" ParticipantObjectTypeCodeRole="1">'
        f"{_code('ParticipantObjectIDTypeCode', '2', 'Patient Number', 'RFC-3881')}"
        f"<ParticipantObjectName>{subject}</ParticipantObjectName>"
        "</ParticipantObjectIdentification>"
    )


def _code(name: str, code: str, meaning: str, system: str = "DCM") -> str:
    return (
        f'<{name} csd-code="{_text(code)}" codeSystemName="{system}"'
        f' originalText="{_text(meaning)}"/>'
    )


def _optional(name: str, text: str) -> str:
    return f' {name}="{_text(text)}"' if text else ""


def _text(text: str) -> str:
    return text.translate(_ATTRIBUTE)
