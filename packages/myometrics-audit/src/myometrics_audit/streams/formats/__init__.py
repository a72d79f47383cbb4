"""Formats of messages: one entry as the body of one message."""

from __future__ import annotations

from .cef import render_cef
from .dicom import render_dicom
from .documents import render_json
from .ecs import render_ecs
from .fhir import render_fhir
from .ocsf import render_ocsf
from .source import Format, Source
from .syslog import render_rfc5424

__all__ = ["FORMATS", "RENDER_FAILURES", "Format", "Source"]

FORMATS: dict[str, Format] = {
    "dicom": render_dicom,
    "rfc5424": render_rfc5424,
    "cef": render_cef,
    "ocsf": render_ocsf,
    "ecs": render_ecs,
    "json": render_json,
    "fhir": render_fhir,
}
"""The formats by name. ``dicom``, ``rfc5424`` and ``cef`` are syslog messages, the others JSON."""

RENDER_FAILURES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors of an entry that can't be rendered; not those that end a process or task."""
