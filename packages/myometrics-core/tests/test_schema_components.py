"""Components of the suite in an OpenAPI document of a site with the same names."""

from __future__ import annotations

import json

import pytest
from django.core.management import call_command
from django.urls import include, path
from drf_spectacular.management.commands.spectacular import Command
from drf_spectacular.settings import patched_settings
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from myometrics_core.api import extend_schema


class HealthSerializer(serializers.Serializer):
    status = serializers.ChoiceField(choices=["fit", "ill"])


class ErrorSerializer(serializers.Serializer):
    # The choices of our field of another name, and other choices under the name of ours.
    condition = serializers.ChoiceField(choices=["healthy", "degraded", "down"])
    status = serializers.ChoiceField(choices=["open", "closed"])


class UnavailableSerializer(serializers.Serializer):
    since = serializers.DateTimeField()


class PatientView(APIView):
    @extend_schema(request=ErrorSerializer, responses={200: HealthSerializer})
    def put(self, request):
        return Response()

    @extend_schema(responses={200: UnavailableSerializer})
    def get(self, request):
        return Response()


ours = path("api/", include("myometrics_core.urls"))
urlpatterns = [path("api/a/", PatientView.as_view()), ours]

SETTINGS = [
    {},
    {"COMPONENT_SPLIT_REQUEST": True},
    {"CAMELIZE_NAMES": True, "OAS_VERSION": "3.1.0"},
    {"COMPONENT_SPLIT_PATCH": False, "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False},
    {"ENUM_GENERATE_CHOICE_DESCRIPTION": False, "COMPONENT_NO_READ_ONLY_REQUIRED": True},
]


@pytest.fixture
def components(tmp_path):
    def generate(patches):
        file = tmp_path / "openapi.json"
        with patched_settings(patches):
            call_command(
                Command(),
                format="openapi-json",
                file=str(file),
                urlconf=__name__,
                validate=True,
                fail_on_warn=True,
            )
        return json.loads(file.read_text())["components"]["schemas"]

    return generate


@pytest.mark.parametrize("patches", SETTINGS, ids=str)
def test_components_of_site_and_suite_do_not_clash(components, patches):
    schemas = components(patches)
    suffix = "Request" if patches.get("COMPONENT_SPLIT_REQUEST") else ""
    assert set(schemas["Health"]["properties"]) == {"status"}
    assert set(schemas[f"Error{suffix}"]["properties"]) == {"condition", "status"}
    assert set(schemas["Unavailable"]["properties"]) == {"since"}
    assert set(schemas["MyoMetricsError"]["properties"]) == {"detail", "code", "field_errors"}
    assert set(schemas["MyoMetricsHealth"]["properties"]) == {"status", "services", "last_check"}
    assert schemas["MyoMetricsUnavailable"]["oneOf"] == [
        {"$ref": "#/components/schemas/MyoMetricsHealth"},
        {"$ref": "#/components/schemas/MyoMetricsError"},
    ]


def test_choices_of_the_suite_are_inlined(components):
    status = components({})["MyoMetricsHealth"]["properties"]["status"]
    (choices,) = status["allOf"]
    assert choices == {"type": "string", "enum": ["healthy", "degraded", "down"]}
