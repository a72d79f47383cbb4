"""The OpenAPI document describes every possible error in the one shape.

``test_fuzz`` checks that responses match it.
"""

from __future__ import annotations

import re

import pytest
from django.core.management import call_command
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings

ERROR = {"$ref": "#/components/schemas/Error"}


DOCUMENT = SchemaGenerator().get_schema(request=None, public=True)
COMPONENTS = {f"#/components/schemas/{n}": s for n, s in DOCUMENT["components"]["schemas"].items()}
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def statuses(operation):
    return set(operation["responses"])


def bodies(response):
    """The schemas of a response; of a choice, each."""
    schemas = [content["schema"] for content in response["content"].values()]
    return [
        kind
        for schema in schemas
        for kind in COMPONENTS.get(schema.get("$ref"), schema).get("oneOf", [schema])
    ]


def operations(*, signed_in):
    """Operations for signed-in users, or public ones."""
    return [name for name, o in OPERATIONS.items() if bool({} not in o["security"]) == signed_in]


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_has_a_short_summary(name):
    summary = OPERATIONS[name]["summary"]
    assert re.match(r"[A-Z][a-z]+ ", summary), summary
    assert len(summary) <= 90
    assert not summary.endswith(".")


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_error_has_one_body_and_a_description(name):
    for status, response in OPERATIONS[name]["responses"].items():
        if status >= "400":
            assert response["description"], status
            assert ERROR in bodies(response), status


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_documents_429_with_retry_after(name):
    header = OPERATIONS[name]["responses"]["429"]["headers"]["Retry-After"]
    assert header["required"]
    assert header["schema"] == {"type": "integer", "minimum": 1}


@pytest.mark.parametrize("name", operations(signed_in=True))
def test_protected_operations_document_401_and_403(name):
    assert {"401", "403", "500"} <= statuses(OPERATIONS[name])
    assert "WWW-Authenticate" in OPERATIONS[name]["responses"]["401"]["headers"]


@pytest.mark.parametrize("name", [name for name, o in OPERATIONS.items() if "requestBody" in o])
def test_operations_with_body_document_400_413_and_415(name):
    assert {"400", "413", "415"} <= statuses(OPERATIONS[name])


def test_special_responses_are_documented():
    by_status = {
        status: {name for name, o in OPERATIONS.items() if status in o["responses"]}
        for status in ("202", "409", "503")
    }
    assert by_status["202"] == {"GET /api/users/me/export/", "POST /api/auth/email/"}
    assert by_status["503"] == {"GET /api/health/"}
    assert {"DELETE /api/users/{user_id}/", "DELETE /api/users/me/"} <= by_status["409"]
    assert "403" in statuses(OPERATIONS["POST /api/auth/login/mfa/"])
    assert "400" in statuses(OPERATIONS["POST /api/users/invitations/{invitation_id}/resend/"])


def test_health_documents_error_without_authentication():
    health = {"$ref": "#/components/schemas/Health"}
    responses = OPERATIONS["GET /api/health/"]["responses"]
    assert bodies(responses["503"]) == [health, ERROR]


@pytest.mark.parametrize("splits", [False, True])
def test_schema_is_clean_and_independent_of_settings(splits, tmp_path):
    file = tmp_path / "openapi.yml"
    with patched_settings({"COMPONENT_SPLIT_REQUEST": splits}):
        call_command("spectacular", validate=True, fail_on_warn=True, file=str(file))
        document = SchemaGenerator().get_schema(request=None, public=True)
    assert set(document["components"]["schemas"]) == set(DOCUMENT["components"]["schemas"])


def test_login_is_documented_with_body_and_both_responses():
    login = OPERATIONS["POST /api/auth/login/"]
    body = login["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert set(COMPONENTS[body]["properties"]) == {"email", "password"}
    shapes = [COMPONENTS[kind["$ref"]]["properties"] for kind in bodies(login["responses"]["200"])]
    assert [next(iter(shape)) for shape in shapes] == ["access", "mfa_required"]
