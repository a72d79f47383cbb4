"""FHIR R4 AuditEvents."""

from __future__ import annotations

from ...log.models import AuditLog
from ...sealing.export.fhir import audit_event, fhir_text
from .documents import json_bytes
from .source import Source


def render_fhir(entry: AuditLog, source: Source) -> bytes:
    """Render an entry as an AuditEvent, with the BALP profile that it follows."""
    event = audit_event(entry, observer=fhir_text(source.host or source.application))
    if source.site_id:
        event["source"]["site"] = fhir_text(source.site_id)
    return json_bytes(event)
