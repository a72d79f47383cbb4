"""Common Event Format (CEF:0) in syslog messages."""

from __future__ import annotations

import json
from typing import Final

from ... import __version__
from ...log.models import AuditLog
from ...sealing.export.interactions import outcome_of
from .characters import VISIBLE_CONTROLS
from .events import epoch_milliseconds, in_words, kind_of, severity_of, user_of
from .source import Source
from .syslog import LOG_AUDIT, syslog_message
from .syslog import SEVERITIES as SYSLOG_SEVERITIES

SEVERITIES: Final = {"alert": "9", "failure": "6", "normal": "3"}
MAX_AGENT_LENGTH: Final = 1023
"""Maximum length of ``requestClientApplication``."""

_HEADER: Final[dict[int, int | str]] = {**VISIBLE_CONTROLS, ord("\\"): "\\\\", ord("|"): "\\|"}
_EXTENSION: Final[dict[int, int | str]] = {
    **VISIBLE_CONTROLS,
    ord("\\"): "\\\\",
    ord("="): "\\=",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
}


def render_cef(entry: AuditLog, source: Source) -> bytes:
    """Render an entry as a syslog message in the Common Event Format."""
    severity = severity_of(entry.action, entry.resource_type)
    header = (
        "MyoMetrics",
        source.application or "myometrics-audit",
        __version__,
        entry.action,
        in_words(entry.action),
        SEVERITIES[severity],
    )
    fields = "|".join(text.translate(_HEADER) for text in header)
    return syslog_message(
        facility=LOG_AUDIT,
        severity=SYSLOG_SEVERITIES[severity],
        moment=entry.timestamp,
        source=source,
        message_id=entry.action,
        message=f"CEF:0|{fields}|{_extension(entry, source)}",
    )


def _extension(entry: AuditLog, source: Source) -> str:
    values = {
        "rt": str(epoch_milliseconds(entry.timestamp)),
        "externalId": str(entry.pk),
        "cat": kind_of(entry.action, entry.resource_type),
        "act": entry.action,
        "outcome": "success" if outcome_of(entry.action) == "0" else "failure",
        "suid": user_of(entry),
        **_address(entry.ip_address),
        "requestClientApplication": entry.user_agent[:MAX_AGENT_LENGTH],
        "dvchost": source.host,
        "dvcpid": source.process_id if source.process_id.isdigit() else "",
        **_labelled(1, "resourceType", entry.resource_type),
        **_labelled(2, "resourceId", entry.resource_id),
        **_labelled(3, "dataSubject", entry.data_subject),
        **_labelled(4, "purpose", entry.purpose),
        **_labelled(5, "legalBasis", entry.legal_basis),
        **_labelled(6, "origin", entry.origin),
        "MyoMetricsAuditPseudonym": entry.pseudonym,
        "MyoMetricsAuditSite": source.site_id,
        "MyoMetricsAuditDetails": json.dumps(entry.details) if entry.details else "",
    }
    return " ".join(f"{key}={text.translate(_EXTENSION)}" for key, text in values.items() if text)


def _address(address: str | None) -> dict[str, str]:
    if not address:
        return {}
    if ":" not in address:
        return {"src": address}
    return {"c6a2": address, "c6a2Label": "Source IPv6 Address"}


def _labelled(number: int, label: str, text: str | None) -> dict[str, str]:
    return {f"cs{number}": text, f"cs{number}Label": label} if text else {}
