"""Entries in the API's format, with the sending site."""

from __future__ import annotations

import json
from typing import Any

from ...log.entry_json import DETAIL_COLUMNS, entry_json
from ...log.models import OPTIONAL_LENGTHS, AuditLog
from .source import Source


def json_bytes(document: Any) -> bytes:
    """Return ``document`` as compact JSON in UTF-8."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    # SQLite can return lone surrogates of older rows; one of them must not block the stream.
    return text.encode("utf-8", "replace")


def render_json(entry: AuditLog, source: Source) -> bytes:
    """Render an entry in the API's format."""
    return json_bytes(entry_document(entry, source))


def entry_document(entry: AuditLog, source: Source) -> dict[str, Any]:
    """Return the entry in the API's format, with the columns that only exports show."""
    shown = entry_json({name: getattr(entry, name) for name in DETAIL_COLUMNS})
    return {
        **shown,
        **{name: getattr(entry, name) or "" for name in OPTIONAL_LENGTHS},
        "pseudonym": entry.pseudonym,
        "activity_id": entry.activity_id,
        "source": {
            "host": source.host,
            "application": source.application,
            "site_id": source.site_id,
            "process_id": source.process_id,
        },
    }
