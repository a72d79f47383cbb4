"""Portable model fields keep their values in Django's serializers and forms."""

import io
import json
from datetime import datetime, timedelta, timezone

import pytest
from django.core import serializers
from django.db import models
from django.forms import modelform_factory
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from site_notes.models import Note

from myometrics_core.db import PortableCharField, PortableDateTimeField, PortableTextField
from myometrics_core.health_log.models import HealthState

FORMATS = ("json", "jsonl", "xml", "yaml")
NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=60)
ESCAPED = TEXT.map(lambda text: "\\json " + json.dumps(text))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=5,
)


def read_back(name, row):
    """Return the row that ``loaddata`` reads after ``dumpdata`` has written ``row``."""
    dumped = serializers.serialize(name, [row])
    (loaded,) = serializers.deserialize(name, io.BytesIO(dumped.encode()))
    return loaded


def note(text):
    return Note(written_at=NOON, text=text)


class TestEveryText(TestCase):
    @settings(max_examples=25)
    @example(" a \r\n\x01\ufffe\u2028\x85\U0001f600 ")
    @example("\\json ")
    @example('\\json "\\u0001"')
    @example("")
    @given(TEXT | ESCAPED)
    def test_dumped_text_is_loaded_unchanged(self, text):
        row = note(text)
        row.pk = 1
        for name in FORMATS:
            read_back(name, row).save()
            assert Note.objects.get().text == text

    @settings(max_examples=25)
    @given(st.dictionaries(TEXT, JSON))
    def test_dumped_json_is_loaded_unchanged(self, value):
        for name in FORMATS:
            assert read_back(name, HealthState(pk=1, services=value)).object.services == value


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("microseconds", [0, 1, 123_456])
def test_dumped_time_keeps_microseconds(name, microseconds):
    row = note("")
    row.written_at = NOON + timedelta(microseconds=microseconds)
    assert read_back(name, row).object.written_at == row.written_at


@pytest.mark.parametrize(
    ("ours", "django"),
    [
        (PortableCharField(max_length=5, blank=True), models.CharField(max_length=5, blank=True)),
        (PortableTextField(null=True), models.TextField(null=True)),
        (PortableDateTimeField(auto_now=True), models.DateTimeField(auto_now=True)),
    ],
)
def test_migrations_record_django_fields(ours, django):
    assert ours.deconstruct() == django.deconstruct()


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["plain", "a\x01b", '\\json "x"'])
def test_form_saves_the_text_that_it_shows(text):
    form_class = modelform_factory(Note, fields=["text"])
    row = note(text)
    shown = form_class(instance=row).initial["text"]
    form = form_class({"text": shown}, instance=row)
    assert form.is_valid()
    assert form.save(commit=False).text == text


@pytest.mark.django_db
@pytest.mark.parametrize("escape", ["\\u0000", "\\ud800"])
def test_form_does_not_decode_unstorable_text(escape):
    typed = f'\\json "{escape}"'
    form = modelform_factory(Note, fields=["text"])({"text": typed}, instance=note(""))
    assert form.is_valid()
    assert form.save(commit=False).text == typed
