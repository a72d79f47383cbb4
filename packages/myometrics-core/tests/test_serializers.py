"""Serializers that build few fields, and return the same as DRF's."""

from __future__ import annotations

import datetime
from types import SimpleNamespace

import pytest
from django.utils.translation import override
from rest_framework import serializers

from myometrics_core.api import (
    AttributesSerializer,
    RequestSerializer,
    StrictCharField,
    UserIdField,
    UtcDateTimeField,
)

TOO_LONG = {"name": "x" * 31}


class PlaceSerializer(AttributesSerializer):
    id = UserIdField(source="pk")
    city = serializers.CharField(source="address.city")
    openedAt = UtcDateTimeField(source="opened_at", allow_null=True)
    isOpen = serializers.BooleanField(source="is_open")


class QuerySerializer(RequestSerializer):
    name = StrictCharField(max_length=30)
    city = StrictCharField(required=False)
    days = serializers.IntegerField(default=30)


def built(**arguments):
    return list(QuerySerializer(**arguments).fields)


@pytest.mark.parametrize("opened_at", [None, "2025-08-19T17:45:00.000001+02:00"])
def test_read_returns_data_of_a_serializer(opened_at):
    place = SimpleNamespace(
        pk=7,
        address=SimpleNamespace(city="Köln"),
        opened_at=opened_at and datetime.datetime.fromisoformat(opened_at),
        is_open=True,
    )
    assert PlaceSerializer.read(place) == PlaceSerializer(place).data
    assert list(PlaceSerializer.read(place)) == ["id", "city", "openedAt", "isOpen"]


def test_request_serializer_builds_given_and_required_fields():
    assert built(data={}) == ["name", "days"]
    assert built(data={"city": "Köln", "unknown": 1}) == ["name", "city", "days"]
    assert built(data={"city": "Köln"}, partial=True) == ["city"]


@pytest.mark.parametrize("arguments", [{}, {"data": ["no object"]}, {"partial": True}])
def test_request_serializer_without_data_has_all_fields(arguments):
    assert built(**arguments) == ["name", "city", "days"]


def test_missing_values_are_treated_as_with_all_fields():
    serializer = QuerySerializer(data={})
    assert not serializer.is_valid()
    assert list(serializer.errors) == ["name"]
    serializer = QuerySerializer(data={"name": "Ada"})
    assert serializer.is_valid()
    assert serializer.validated_data == {"name": "Ada", "days": 30}


def test_requests_share_no_field_and_no_message():
    first, second = QuerySerializer(data=TOO_LONG), QuerySerializer(data=TOO_LONG)
    with override("de"):
        assert not first.is_valid()
        assert "Zeichen" in str(first.errors["name"][0])
    with override("en"):
        assert not second.is_valid()
        assert "characters" in str(second.errors["name"][0])
    assert first.fields["name"] is not second.fields["name"]
