"""Sections rendered by PostgreSQL equal those rendered record by record."""

import csv
import io
import json
from datetime import datetime, timedelta, timezone

import pytest
from django.contrib.auth import get_user_model
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from myometrics_core.health_log.models import HealthState
from myometrics_core.personal_data import (
    ExportTable,
    PersonalDataSection,
    export_chunks,
    register_personal_data,
)
from myometrics_core.personal_data import sections as personal_data
from myometrics_core.personal_data.tables import csv_lines
from myometrics_core.users import user_id_json

USER_COLUMNS = {
    "id": "id",
    "email": "email",
    "name": "full_name",
    "staff": "is_staff",
    "at": "last_login",
}
STATE = {"id": "id", "text": "status", "details": "services", "at": "checked_at"}
HOSTILE = [
    "",
    "plain",
    "=1+1",
    "  =1",
    "\u00a0@x",
    "\t-1",
    "+",
    "＝1",
    'quoted "text", with comma',
    "back\\slash \\N \\t",
    "\\N",
    "line\nbreak\r\nand\ttab",
    "äöü 🦊 \u2028",
    *(f"x{chr(code)}y" for code in range(1, 32)),
    "\x7f",
    "'; DROP TABLE x; --",
    "%b %s {0}",
]
TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=40)


class Slow(PersonalDataSection):
    """Model rows, each rendered in Python."""

    name = "rows"

    def __init__(self, queryset, columns):
        self.queryset, self.columns = queryset, columns

    def export(self, user):
        for row in self.queryset.values_list(*self.columns.values()).iterator(100):
            record = dict(zip(self.columns, row, strict=True))
            yield {**record, "id": user_id_json(record["id"])}

    def erase(self, user):
        """Nothing."""


class Quick(Slow):
    """The same rows, as a table."""

    def export_table(self, user):
        return ExportTable(queryset=self.queryset, columns=self.columns)


def exported(section, export_format):
    personal_data._sections.clear()
    register_personal_data(section)
    return b"".join(export_chunks(None, export_format)).decode()


def assert_same(queryset, columns):
    slow, quick = Slow(queryset, columns), Quick(queryset, columns)
    in_json = [json.loads(exported(section, "json"))["rows"] for section in (slow, quick)]
    assert [_timed(record) for record in in_json[1]] == [_timed(record) for record in in_json[0]]
    in_csv = [
        [_timed_cell(*row) for row in csv.reader(io.StringIO(exported(section, "csv"), newline=""))]
        for section in (slow, quick)
    ]
    assert in_csv[1] == in_csv[0]


def _timed(record):
    return {**record, "at": record["at"] and _moment(record["at"])}


def _timed_cell(section, record, field, value):
    value = _moment(value) if field == "at" and value else value
    return section, record, field, json.loads(value) if field == "details" else value


def _moment(text):
    assert text.endswith("Z")
    whole, _, fraction = text[:-1].partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction.ljust(6, '0')}+00:00")


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    monkeypatch.setattr(personal_data, "_sections", {})


@pytest.mark.django_db
def test_only_postgresql_copies(database_vendor):
    table = ExportTable(queryset=get_user_model().objects.all(), columns=USER_COLUMNS)
    assert table.can_be_copied() is (database_vendor == "postgresql")


@pytest.mark.django_db
def test_table_with_unsupported_column_is_not_copied():
    columns = {**USER_COLUMNS, "groups": "groups"}
    table = ExportTable(queryset=get_user_model().objects.all(), columns=columns)
    assert table.can_be_copied() is False


@pytest.mark.django_db
def test_special_characters_are_exported_unchanged():
    users = get_user_model().objects
    for number, text in enumerate(HOSTILE):
        users.create(email=f"p{number}@x.example", full_name=text, is_staff=number % 2 == 0)
    users.filter(is_staff=True).update(
        last_login=datetime(2025, 8, 19, 15, 45, 1, 120000, tzinfo=timezone.utc)
    )
    assert_same(users.order_by("email"), USER_COLUMNS)
    assert_same(users.filter(full_name__in=["'%s'", "back\\slash \\N \\t", "plain"]), USER_COLUMNS)
    assert_same(users.none(), USER_COLUMNS)
    assert_same(users.filter(email="unknown"), USER_COLUMNS)


@pytest.mark.django_db
def test_many_rows_are_exported_in_order_and_in_pieces():
    HealthState.objects.bulk_create(
        HealthState(status="x" * (number % 10), services={"n": number}) for number in range(3000)
    )
    queryset = HealthState.objects.order_by("-id")
    assert_same(queryset, STATE)
    personal_data._sections.clear()
    register_personal_data(Quick(queryset, STATE))
    assert len(list(export_chunks(None, "csv"))) > 2


def examined_texts(table):
    """Texts that were checked for formulas: those of rows that are unescaped one by one."""
    texts = []

    def examine(text):
        texts.append(text)
        return text

    lines = b"".join(csv_lines("rows", table, examine)).decode()
    return texts, list(csv.reader(io.StringIO(lines, newline="")))


@pytest.mark.django_db
def test_empty_values_need_no_unescaping(database_vendor):
    if database_vendor != "postgresql":
        return  # nothing is copied
    users = get_user_model().objects
    users.bulk_create(users.model(email=f"p{n}@x.example", full_name="") for n in range(500))
    users.filter(email__startswith="p1").update(last_login=datetime.now(timezone.utc))
    table = ExportTable(queryset=users.order_by("email"), columns=USER_COLUMNS)

    texts, lines = examined_texts(table)

    assert texts == []
    assert len(lines) == 500 * len(USER_COLUMNS)
    assert {value for _, _, field, value in lines if field == "name"} == {""}
    without_time = [value for _, _, field, value in lines if field == "at" and not value]
    assert len(without_time) == users.filter(last_login=None).count() > 0

    users.create(email="z@x.example", full_name="=1+1")
    texts, _ = examined_texts(table)
    assert "=1+1" in texts


def _microseconds(count):
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=count)


class AnyTextReadsTheSame(TestCase):
    @settings(max_examples=40)
    @given(
        texts=st.lists(TEXT, max_size=5),
        details=st.dictionaries(TEXT, TEXT | st.integers(-(2**40), 2**40) | st.booleans()),
        at=st.integers(0, 4 * 10**15).map(_microseconds),
    )
    def test_any_text_is_exported_unchanged(self, texts, details, at):
        users = get_user_model().objects
        users.bulk_create(
            users.model(email=f"{number}@x.example", full_name=text)
            for number, text in enumerate(texts)
        )
        assert_same(users.order_by("email"), USER_COLUMNS)
        users.all().delete()
        HealthState.objects.update_or_create(pk=1, defaults={"services": details, "checked_at": at})
        assert_same(HealthState.objects.all(), STATE)
