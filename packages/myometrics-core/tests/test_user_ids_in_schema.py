"""User ids in the OpenAPI document have the type of the user model's key."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.urls import path
from drf_spectacular.generators import SchemaGenerator
from rest_framework import serializers
from rest_framework.response import Response

from myometrics_core.api import ApiView, UserIdField, extend_schema


class ReportSerializer(serializers.Serializer[Any]):
    author = UserIdField(source="pk", help_text="Who wrote it.")
    reader = UserIdField(allow_null=True)


class ReportView(ApiView):
    @extend_schema(responses={200: ReportSerializer})
    def get(self, request):
        return Response({})


def described():
    generator = SchemaGenerator(patterns=[path("reports/", ReportView.as_view())])
    document = generator.get_schema(request=None, public=True)
    return document["components"]["schemas"]["Report"]["properties"]


@pytest.mark.parametrize(
    ("user_model", "schema"),
    [
        ("clinic_site.Person", {"type": "string", "format": "uuid"}),
        ("auth.User", {"type": "integer"}),
        ("sessions.Session", {"type": "string"}),  # any model whose key is text
    ],
)
def test_schema_of_user_id_has_type_of_the_key(settings, user_model, schema):
    settings.AUTH_USER_MODEL = user_model
    assert described()["author"] == {**schema, "description": "Who wrote it."}
    assert described()["reader"] == {**schema, "nullable": True}


def test_user_id_in_response_matches_schema():
    user = get_user_model()()
    shown = ReportSerializer().fields["author"].to_representation(user.pk)
    assert shown == str(user.pk)
