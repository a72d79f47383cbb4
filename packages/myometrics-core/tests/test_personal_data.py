"""Export and erasure of a user's data."""

import csv
import io
import json
from datetime import datetime, timezone

import pytest
from django.contrib.auth import get_user_model
from hypothesis import given
from hypothesis import strategies as st

from myometrics_core.personal_data import (
    PersonalDataSection,
    erase_user,
    export_chunks,
    register_personal_data,
)
from myometrics_core.personal_data import sections as personal_data

AT = datetime(2025, 8, 19, 15, 45, tzinfo=timezone.utc)


class Section(PersonalDataSection):
    def __init__(self, name, records, order=100, many=True, fails=False):
        self.name, self.records, self.order, self.many = name, records, order, many
        self.fails = fails
        self.erased = []

    def export(self, user):
        yield from self.records

    def erase(self, user):
        self.erased.append(user.pk)
        if self.fails:
            raise RuntimeError("can't")


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    monkeypatch.setattr(personal_data, "_sections", {})


def exported(export_format):
    return b"".join(export_chunks(None, export_format)).decode()


def table():
    return list(csv.reader(io.StringIO(exported("csv"), newline="")))


def test_json_is_one_object_in_the_order_of_the_sections():
    register_personal_data(Section("uploads", [{"id": "a"}, {"id": "b", "at": AT}], order=30))
    register_personal_data(Section("profile", [{"id": 1}], order=10, many=False))
    register_personal_data(Section("empty", [], order=40))
    assert json.loads(exported("json")) == {
        "profile": {"id": 1},
        "uploads": [{"id": "a"}, {"id": "b", "at": "2025-08-19T15:45:00Z"}],
        "empty": [],
        "complete": True,
    }


def test_csv_is_one_table():
    register_personal_data(
        Section("uploads", [{"id": "a", "ok": True, "none": None, "details": {"x": [1]}, "at": AT}])
    )
    assert table() == [
        ["section", "record", "field", "value"],
        ["uploads", "1", "id", "a"],
        ["uploads", "1", "ok", "true"],
        ["uploads", "1", "none", ""],
        ["uploads", "1", "details", '{"x": [1]}'],
        ["uploads", "1", "at", "2025-08-19T15:45:00Z"],
        ["export", "", "complete", "true"],
    ]


@pytest.mark.parametrize("records", [[], [{"id": 1}]])
def test_export_ends_with_completeness_marker(records):
    register_personal_data(Section("uploads", records))
    assert exported("csv").endswith("\r\nexport,,complete,true\r\n")
    assert exported("json").endswith('"complete": true}\n')


def test_section_name_complete_is_rejected():
    with pytest.raises(ValueError, match="complete"):
        register_personal_data(Section("complete", []))


@pytest.mark.parametrize("export_format", ["csv", "json"])
def test_aborted_export_has_no_completeness_marker(export_format):
    def breaking():
        yield {"id": 1}
        raise RuntimeError("the database is gone")

    register_personal_data(Section("uploads", breaking()))
    read = []
    with pytest.raises(RuntimeError):
        read.extend(export_chunks(None, export_format))
    assert b"complete" not in b"".join(read)


@pytest.mark.parametrize("start", [*"=+-@\t\r\n＝＋－＠", "  =", "\u00a0=", " \t@"])
def test_cells_are_not_run_as_formulas(start):
    register_personal_data(Section("profile", [{"name": f"{start}cmd|' /C calc'!A0"}]))
    assert table()[1][3] == f"'{start}cmd|' /C calc'!A0"


def test_spreadsheet_safe_keeps_numbers():
    register_personal_data(Section("profile", [{"change": -5.5}]))
    assert table()[1][3] == "-5.5"


@given(st.lists(st.dictionaries(st.text(min_size=1), st.text() | st.integers(), min_size=1)))
def test_any_text_is_exported_in_both_formats(records):
    personal_data._sections.clear()
    register_personal_data(Section("any", records))
    assert json.loads(exported("json")) == {"any": records, "complete": True}
    rows = table()[1:-1]
    fields = [(field, value) for record in records for field, value in record.items()]
    assert len(rows) == len(fields)
    for row, (field, value) in zip(rows, fields, strict=True):
        name, text = (str(part).replace("\x00", "\ufffd") for part in (field, value))
        assert row[2] in (name, f"'{name}")
        assert row[3] in (text, f"'{text}")


def test_export_is_streamed_in_chunks():
    def forever():
        while True:
            yield {"text": "x" * 100}

    register_personal_data(Section("endless", forever()))
    chunks = export_chunks(None, "json")
    assert 60_000 < len(next(chunks)) < 70_000


@pytest.mark.django_db
def test_erasure_runs_sections_then_deletes_user(user):
    sections = [Section("a", [], order=1), Section("b", [], order=2)]
    for section in sections:
        register_personal_data(section)
    key = user.pk
    erase_user(user)
    assert [section.erased for section in sections] == [[key], [key]]
    assert not get_user_model().objects.filter(pk=key).exists()


@pytest.mark.django_db(transaction=True)
def test_failed_erasure_is_rolled_back(user):
    class Renaming(Section):
        def erase(self, user):
            get_user_model().objects.filter(pk=user.pk).update(full_name="erased")

    register_personal_data(Renaming("late", [], order=2))
    register_personal_data(Section("early", [], order=1, fails=True))
    with pytest.raises(RuntimeError):
        erase_user(user)
    user.refresh_from_db()
    assert user.full_name != "erased"
