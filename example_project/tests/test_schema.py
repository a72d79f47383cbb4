"""The OpenAPI document tells of every error that can come, in the one shape.

That no answer is of another status or shape than it tells is ``test_fuzz``'s to show.
"""

from __future__ import annotations

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


def whom(*, signed_in):
    """Operations for people who are signed in, or for everybody."""
    return [name for name, o in OPERATIONS.items() if bool({} not in o["security"]) == signed_in]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_error_has_the_one_body_and_says_what_it_means(name):
    for status, response in OPERATIONS[name]["responses"].items():
        if status >= "400":
            assert response["description"], status
            assert ERROR in bodies(response), status


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_can_be_refused_for_a_while_and_says_for_how_long(name):
    header = OPERATIONS[name]["responses"]["429"]["headers"]["Retry-After"]
    assert header["required"]
    assert header["schema"] == {"type": "integer", "minimum": 1}


@pytest.mark.parametrize("name", whom(signed_in=True))
def test_who_is_not_signed_in_or_not_allowed_is_told_so(name):
    assert {"401", "403", "500"} <= statuses(OPERATIONS[name])
    assert "WWW-Authenticate" in OPERATIONS[name]["responses"]["401"]["headers"]


@pytest.mark.parametrize("name", [name for name, o in OPERATIONS.items() if "requestBody" in o])
def test_a_body_can_be_wrong_too_large_and_no_json(name):
    assert {"400", "413", "415"} <= statuses(OPERATIONS[name])


def test_what_only_some_operations_answer():
    by_status = {
        status: {name for name, o in OPERATIONS.items() if status in o["responses"]}
        for status in ("202", "409", "503")
    }
    assert by_status["202"] == {"GET /api/users/me/export/"}
    assert by_status["503"] == {"GET /api/health/"}
    assert {"DELETE /api/users/{user_id}/", "DELETE /api/users/me/"} <= by_status["409"]


def test_health_that_can_not_tell_who_asks_answers_with_an_error():
    health = {"$ref": "#/components/schemas/Health"}
    responses = OPERATIONS["GET /api/health/"]["responses"]
    assert bodies(responses["503"]) == [health, ERROR]


@pytest.mark.parametrize("splits", [False, True])
def test_document_is_clean_and_has_the_same_components_with_other_settings(splits, tmp_path):
    file = tmp_path / "openapi.yml"
    with patched_settings({"COMPONENT_SPLIT_REQUEST": splits}):
        call_command("spectacular", validate=True, fail_on_warn=True, file=str(file))
        document = SchemaGenerator().get_schema(request=None, public=True)
    assert set(document["components"]["schemas"]) == set(DOCUMENT["components"]["schemas"])


def test_sign_in_is_documented_with_its_body_and_both_answers():
    login = OPERATIONS["POST /api/auth/login/"]
    body = login["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert set(COMPONENTS[body]["properties"]) == {"email", "password"}
    shapes = [COMPONENTS[kind["$ref"]]["properties"] for kind in bodies(login["responses"]["200"])]
    assert [next(iter(shape)) for shape in shapes] == ["access", "mfa_required"]
