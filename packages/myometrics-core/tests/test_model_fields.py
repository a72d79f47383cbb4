"""What Django's serializers and forms make of our model fields."""

import io
import json
from datetime import datetime, timedelta, timezone

import pytest
from django.core import serializers
from django.db import models
from django.forms import modelform_factory
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from myometrics_core.access_table.models import Access
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
    """The row that ``loaddata`` reads from what ``dumpdata`` writes of ``row``."""
    dumped = serializers.serialize(name, [row])
    (loaded,) = serializers.deserialize(name, io.BytesIO(dumped.encode()))
    return loaded


def access(endpoint):
    return Access(timestamp=NOON, method="GET", endpoint=endpoint, status=200, milliseconds=1)


class TestEveryText(TestCase):
    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @example(" a \r\n\x01\ufffe\u2028\x85\U0001f600 ")
    @example("\\json ")
    @example('\\json "\\u0001"')
    @example("")
    @given(TEXT | ESCAPED)
    def test_is_loaded_as_it_was_dumped(self, text):
        row = access(text)
        row.pk = 1
        for name in FORMATS:
            read_back(name, row).save()
            assert Access.objects.get().endpoint == text

    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(st.dictionaries(TEXT, JSON))
    def test_in_json_is_loaded_as_it_was_dumped(self, value):
        for name in FORMATS:
            assert read_back(name, HealthState(pk=1, services=value)).object.services == value


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("microseconds", [0, 1, 123_456])
def test_times_are_loaded_to_the_microsecond(name, microseconds):
    row = access("/")
    row.timestamp = NOON + timedelta(microseconds=microseconds)
    assert read_back(name, row).object.timestamp == row.timestamp


@pytest.mark.parametrize(
    ("ours", "django"),
    [
        (PortableCharField(max_length=5, blank=True), models.CharField(max_length=5, blank=True)),
        (PortableTextField(null=True), models.TextField(null=True)),
        (PortableDateTimeField(auto_now=True), models.DateTimeField(auto_now=True)),
    ],
)
def test_migrations_see_fields_of_django(ours, django):
    assert ours.deconstruct() == django.deconstruct()


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["plain", "a\x01b", '\\json "x"'])
def test_a_form_gives_back_the_text_that_it_shows(text):
    form_class = modelform_factory(Access, fields=["endpoint"])
    row = access(text)
    shown = form_class(instance=row).initial["endpoint"]
    form = form_class({"endpoint": shown}, instance=row)
    assert form.is_valid()
    assert form.save(commit=False).endpoint == text


@pytest.mark.django_db
@pytest.mark.parametrize("escape", ["\\u0000", "\\ud800"])
def test_form_can_not_bring_in_what_no_database_keeps(escape):
    typed = f'\\json "{escape}"'
    form = modelform_factory(Access, fields=["endpoint"])({"endpoint": typed}, instance=access(""))
    assert form.is_valid()
    assert form.save(commit=False).endpoint == typed
