"""RFC 5424 syslog messages, and entries as JSON in them."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Final

from myometrics_core.times import utc_text

from ... import __version__
from ...log.models import AuditLog
from ...sealing.export.interactions import outcome_of
from .characters import VISIBLE_CONTROLS
from .documents import entry_document
from .events import kind_of, severity_of, user_of
from .source import Source

SECURITY: Final = 10
"""The facility "security/authorization messages", which IHE requires for audit messages."""
LOG_AUDIT: Final = 13
"""The facility "log audit"."""
SEVERITIES: Final = {"alert": 1, "failure": 4, "normal": 5}
"""Syslog's severities alert, warning and notice."""

BOM: Final = "\ufeff"
NIL: Final = "-"
_NOT_PRINTABLE = re.compile(r"[^!-~]")
_PARAMETER: Final[dict[int, int | str]] = {
    **VISIBLE_CONTROLS,
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    ord("]"): "\\]",
}
# The project has no private enterprise number; RFC 5612 reserves 32473 for examples.
SD_ID: Final = "myometrics@32473"


def syslog_message(
    *,
    facility: int,
    severity: int,
    moment: datetime,
    source: Source,
    message_id: str,
    structured_data: str = NIL,
    message: str,
) -> bytes:
    """Return a syslog message of RFC 5424, without the framing of a transport.

    A message that isn't ASCII begins with a byte order mark, as section 6.4 requires for UTF-8.
    """
    header = (
        f"<{facility * 8 + severity}>1 {utc_text(moment, 'milliseconds')}"
        f" {header_field(source.host, 255)} {header_field(source.application, 48)}"
        f" {header_field(source.process_id, 128)} {header_field(message_id, 32)}"
    )
    mark = "" if message.isascii() or message.startswith(BOM) else BOM
    return f"{header} {structured_data} {mark}{message}".encode("utf-8", "replace")


def header_field(text: str, length: int) -> str:
    """Return ``text`` as a field of the header: printable ASCII, or ``-`` if it is empty."""
    return _NOT_PRINTABLE.sub("_", text[:length]) or NIL


def element(name: str, **parameters: str) -> str:
    """Return an element of structured data, without its empty parameters."""
    pairs = [f' {key}="{text.translate(_PARAMETER)}"' for key, text in parameters.items() if text]
    return f"[{name}{''.join(pairs)}]"


def render_rfc5424(entry: AuditLog, source: Source) -> bytes:
    """Render an entry as a syslog message with structured data, and JSON as its text."""
    data = element(
        SD_ID,
        id=str(entry.pk),
        kind=kind_of(entry.action, entry.resource_type),
        action=entry.action,
        outcome="success" if outcome_of(entry.action) == "0" else "failure",
        user=user_of(entry),
        resourceType=entry.resource_type,
        resourceId=entry.resource_id,
        dataSubject=entry.data_subject or "",
        origin=entry.origin or "",
    )
    origin = element("origin", software="myometrics-audit", swVersion=__version__)
    return syslog_message(
        facility=LOG_AUDIT,
        severity=SEVERITIES[severity_of(entry.action, entry.resource_type)],
        moment=entry.timestamp,
        source=source,
        message_id=entry.action,
        structured_data=origin + data,
        # ASCII needs no byte order mark, which parsers of JSON refuse.
        message=json.dumps(entry_document(entry, source), separators=(",", ":")),
    )
