"""Every error is ``{"detail", "code", "field_errors"}`` without server internals."""

import io
import json

import pytest
from django.contrib.auth import get_user_model
from django.core.signals import got_request_exception
from django.db import connection

DEEP = "[" * 100_000 + "]" * 100_000


def shape_of(response, status):
    assert response.status_code == status
    body = response.json()
    assert set(body) == {"detail", "code", "field_errors"}
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert all(isinstance(text, str) for texts in body["field_errors"].values() for text in texts)
    return body


def test_validation_error_names_first_field_in_detail(client):
    body = shape_of(client.post("/api/echo/", {"name": 5, "wanted": 1}, format="json"), 400)
    assert body["code"] == "validation_error"
    assert body["detail"] == "name: Not a valid string."
    assert set(body["field_errors"]) == {"name", "wanted"}


def test_nested_errors_are_named_by_their_path(client):
    body = shape_of(
        client.post("/api/echo/", {"name": "a", "tags": ["ok", "long"]}, format="json"), 400
    )
    assert list(body["field_errors"]) == ["tags.1"]


@pytest.mark.parametrize(
    "raw",
    ["{", "NaN", '{"name": NaN}', '{"name": 1e999}', '{"name": -Infinity}', DEEP, "\xff", "{} {}"],
    ids=lambda raw: raw[:20],
)
def test_invalid_json_is_a_parse_error_without_fields(client, raw):
    response = client.post("/api/echo/", raw.encode("latin-1"), content_type="application/json")
    body = shape_of(response, 400)
    assert body["code"] == "parse_error"
    assert body["field_errors"] == {}


@pytest.mark.parametrize("body", ["[]", '"text"', "5", "null", "true"])
def test_body_that_is_no_object_is_a_validation_error(client, body):
    response = client.post("/api/echo/", body, content_type="application/json")
    assert shape_of(response, 400)["field_errors"]


@pytest.mark.parametrize(
    "name",
    ["a\x00b", "\ud800", "x" * 31, "x" * 1_000_000, 10**400, 1.5, True, None, [], {}, ""],
    ids=lambda name: repr(name)[:20],
)
def test_unstorable_text_is_a_field_error(client, name):
    raw = json.dumps({"name": name})
    response = client.post("/api/echo/", raw, content_type="application/json")
    assert list(shape_of(response, 400)["field_errors"]) == ["name"]


@pytest.mark.parametrize(
    "details",
    [
        "text",
        None,
        {"a": "\x00"},
        {"\x00": 1},
        {"a": ["\udc00"]},
        {"a": 10**400},
        {"a": "x" * 70_000},
        [],
    ],
    ids=lambda details: repr(details)[:20],
)
def test_unstorable_details_are_a_field_error(client, details):
    raw = json.dumps({"name": "a", "details": details})
    response = client.post("/api/echo/", raw, content_type="application/json")
    assert list(shape_of(response, 400)["field_errors"]) == ["details"]


def test_too_deeply_nested_details_are_a_field_error(client):
    raw = '{"name": "a", "details": ' + '{"a":' * 200 + "1" + "}" * 200 + "}"
    response = client.post("/api/echo/", raw, content_type="application/json")
    assert list(shape_of(response, 400)["field_errors"]) == ["details"]


def test_details_of_64_kib_are_accepted(client):
    details = {"a": "x" * (65536 - len('{"a":""}'))}
    response = client.post("/api/echo/", {"name": "a", "details": details}, format="json")
    assert response.json()["details"] == details


def test_body_over_the_limit_is_413(client, settings):
    settings.MYOMETRICS = {"MAX_BODY_BYTES": 100}
    response = client.post("/api/echo/", {"name": "x" * 200}, format="json")
    assert shape_of(response, 413)["code"] == "body_too_large"


def test_each_kind_of_error_has_its_own_code(client, signed_in):
    assert shape_of(client.get("/api/faulty/missing/"), 404)["code"] == "not_found"
    assert shape_of(client.get("/api/faulty/conflict/"), 409)["code"] == "conflict"
    assert shape_of(client.put("/api/echo/"), 405)["code"] == "method_not_allowed"
    assert shape_of(client.options("/api/echo/"), 405)["code"] == "method_not_allowed"
    assert shape_of(client.get("/api/administrators/"), 403)["code"] == "permission_denied"
    assert shape_of(client.get("/api/no/such/thing"), 404)["code"] == "not_found"
    form = client.post("/api/echo/", "name=a", content_type="application/x-www-form-urlencoded")
    assert shape_of(form, 415)["code"] == "unsupported_media_type"


def test_anonymous_request_is_401(client, db):
    assert shape_of(client.get("/api/administrators/"), 403)["code"] == "not_authenticated"


def test_unsupported_method_is_405_for_every_role(client, user, administrator):
    for caller in (user, administrator):
        client.force_authenticate(caller)
        shape_of(client.delete("/api/administrators/"), 405)


def test_accept_header_is_ignored(client):
    response = client.post("/api/echo/", {"name": "a"}, format="json", HTTP_ACCEPT="text/html")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"


def test_unexpected_error_is_bare_500_and_signalled(client, caplog):
    received = []
    client.raise_request_exception = False
    got_request_exception.connect(listener := lambda **kwargs: received.append(kwargs))
    body = shape_of(client.get("/api/faulty/bug/"), 500)
    got_request_exception.disconnect(listener)
    assert "innards" not in json.dumps(body)
    assert len(received) == 1
    assert "secret innards" in caplog.text


def test_aborted_request_body_is_400(client, caplog):
    class BrokenOff(io.BytesIO):
        def read(self, *args):
            raise BlockingIOError("timed out")

    answer = client.generic(
        "POST",
        "/api/echo/",
        content_type="application/json",
        CONTENT_LENGTH="10",
        **{"wsgi.input": BrokenOff()},
    )
    assert answer.status_code == 400
    assert set(answer.json()) == {"detail", "code", "field_errors"}
    assert "Unhandled" not in caplog.text


@pytest.mark.django_db
def test_error_leaves_the_transaction_of_a_test_case_usable(client, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    shape_of(client.get("/api/faulty/conflict/"), 409)
    assert not get_user_model().objects.exists()
