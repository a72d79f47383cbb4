"""Access reports as files, oldest entry first, in constant memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from copy import copy
from itertools import islice
from typing import Any, Final

from myometrics_core.personal_data import spreadsheet_safe
from myometrics_core.texts import encodable_text

from ..conf import audit_settings
from ..listing import Selection, entries_count
from ..log.models import AuditLog
from ..sealing.export.fhir import audit_event
from .report import UserNames, report_entries, report_row, row_json

CSV_COLUMNS: Final = (
    "timestamp",
    "who",
    "user_id",
    "action",
    "resource_type",
    "resource_id",
    "purpose",
    "legal_basis",
    "origin",
)
FILE_NAMES: Final = {"csv": "access_report.csv", "fhir": "access_report.json"}
ROWS_PER_CHUNK: Final = 500


def report_chunks(selection: Selection, file_format: str, *, for_subject: bool) -> Iterator[bytes]:
    """Yield the report as UTF-8: ``csv``, or ``fhir``, a Bundle of AuditEvents.

    The last line of CSV is ``complete,true``; a file without it is truncated.
    """
    write = {"csv": _csv_lines, "fhir": _bundle_pieces}[file_format]
    pieces = write(selection, for_subject=for_subject)
    while chunk := "".join(islice(pieces, ROWS_PER_CHUNK)):
        yield encodable_text(chunk).encode()


def _csv_lines(selection: Selection, *, for_subject: bool) -> Iterator[str]:
    writer = csv.writer(_Line())
    names = UserNames(for_subject=for_subject)
    yield writer.writerow(CSV_COLUMNS)
    for entry in report_entries(selection):
        row = row_json(report_row(entry, names))
        yield writer.writerow([spreadsheet_safe(row[name]) for name in CSV_COLUMNS])
    yield writer.writerow(["complete", "true"])


def _bundle_pieces(selection: Selection, *, for_subject: bool) -> Iterator[str]:
    total = entries_count(selection)
    yield json.dumps({"resourceType": "Bundle", "type": "searchset", "total": total})[:-1]
    # FHIR has no empty lists.
    start, end = ', "entry": [\n', ""
    names = UserNames(for_subject=for_subject)
    for entry in report_entries(selection):
        event = _event_for_subject(entry, names) if for_subject else _event(entry)
        found = {"resource": event, "search": {"mode": "match"}}
        yield start + json.dumps(found, ensure_ascii=False)
        start, end = ",\n", "\n]"
    yield end + "}\n"


def _event(entry: AuditLog) -> dict[str, Any]:
    return audit_event(entry, observer=audit_settings.ACCESS_REPORT_CLINIC or "myometrics")


def _event_for_subject(entry: AuditLog, names: UserNames) -> dict[str, Any]:
    """Return the event with the user's name for data subjects, without client and details."""
    name = report_row(entry, names)["who"]
    shown = copy(entry)
    shown.user_id, shown.pseudonym = None, name
    shown.ip_address, shown.user_agent, shown.details = None, "", {}
    return _event(shown)


class _Line:
    """A file-like object whose ``write`` returns the line, so that ``csv`` can stream."""

    def write(self, line: str) -> str:
        return line
