"""Exports contain all records of each section in every rendering."""

from __future__ import annotations

import csv
import io
import json

import pytest

from myometrics_core.personal_data import export_chunks, spreadsheet_safe
from myometrics_core.personal_data.sections import personal_data_sections

pytestmark = pytest.mark.django_db

HOSTILE = ["=1+1", 'quoted "text", with comma', "back\\slash \\N", "line\nbreak\ttab", "äöü 🦊"]


@pytest.fixture
def busy(as_doctor, doctor):
    """A doctor with entries of odd texts, and an entry without a request."""
    for number, text in enumerate(HOSTILE):
        body = {
            "action": "upload_completed",
            "resource_type": "upload",
            "resource_id": f"{text[:80]}{number}",
            "details": {"filename": text, text: [None, True, 1.5, 2**53, {"x": text}]},
        }
        headers = {
            "HTTP_USER_AGENT": text.replace("\n", " ").encode("latin-1", "ignore").decode("latin-1")
        }
        assert as_doctor.post("/api/audit-logs/", body, format="json", **headers).status_code == 201
    return doctor


def expected(user):
    """Section → its records, as plain JSON values."""
    return {
        section.name: json.loads(json.dumps(list(section.export(user)), default=_text))
        for section in personal_data_sections()
    }


def _text(value):
    return value.isoformat().replace("+00:00", "Z")


def _plain(record):
    return {
        **record,
        **({"timestamp": _digits(record["timestamp"])} if "timestamp" in record else {}),
    }


def _digits(moment):
    return moment.removesuffix("Z").rstrip("0") if "." in moment else moment.removesuffix("Z")


def test_json_holds_every_record_of_every_section(busy):
    exported = json.loads(b"".join(export_chunks(busy, "json")))

    wanted = expected(busy)
    assert len(wanted["audit_logs"]) >= len(HOSTILE)
    for name, records in wanted.items():
        found = exported[name] if isinstance(exported[name], list) else [exported[name]]
        assert list(map(_plain, found)) == list(map(_plain, records))


def test_csv_holds_every_field_of_every_record(busy):
    text = b"".join(export_chunks(busy, "csv")).decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
    assert rows.pop() == ["export", "", "complete", "true"]

    cells = {(section, int(number), field): value for section, number, field, value in rows}
    assert len(cells) == len(rows)
    for name, records in expected(busy).items():
        for number, record in enumerate(records, start=1):
            for field, value in record.items():
                _assert_cell(cells.pop((name, number, spreadsheet_safe(field))), field, value)
    assert cells == {}


def _assert_cell(cell, field, value):
    if isinstance(value, (dict, list)):
        assert json.loads(cell) == value
    elif isinstance(value, bool):
        assert cell == str(value).lower()
    elif field == "timestamp":
        assert _digits(cell) == _digits(value)
    else:
        assert cell == ("" if value is None else str(spreadsheet_safe(value)))
