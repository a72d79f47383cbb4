"""Arbitrary input: never a 500, always the error shape, no partial writes."""

from __future__ import annotations

import json
import os

import pytest
from conftest import NEW_PASSWORD, PASSWORD, send
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient
from specified import CHANGES, ERROR_KEYS

from myometrics_auth.email_addresses import clean_email
from myometrics_auth.models import Session
from myometrics_core.users import canonical_email

pytestmark = pytest.mark.django_db

TEXT = st.text(alphabet=st.characters(codec=None, exclude_categories=[]), max_size=60)
LONG = st.integers(200, 3000).map(lambda length: "x" * length)
DEEP = st.integers(2, 400).map(lambda depth: json.loads("[" * depth + "]" * depth))
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXT,
        LONG,
        DEEP,
        st.sampled_from(
            ["\x00", "\ud800", "é", "ａ@x.example", "a@b.example", PASSWORD, "1" * 400]
        ),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
PUBLIC = {
    "auth/login/": {"email": "user@clinic.example", "password": PASSWORD},
    "auth/login/mfa/": {"mfa_token": "x", "code": "123456"},
    "auth/register/": {"email": "new@clinic.example", "password": PASSWORD, **CHANGES},
    "auth/password-reset/": {"email": "user@clinic.example"},
    "auth/password-reset/confirm/": {"uid": "MQ", "token": "x-y", "new_password": NEW_PASSWORD},
    "auth/token/refresh/": {"refresh": "x"},
    "auth/verify-email/": {"email": "user@clinic.example"},
    "auth/login/passkey/verify/": {"passkey": {}},
}
SIGNED_IN = {
    ("post", "auth/logout/"): {"refresh": "x"},
    ("post", "auth/change-password/"): {"old_password": "wrong", "new_password": NEW_PASSWORD},
    ("put", "auth/user/"): CHANGES,
    ("patch", "auth/user/"): CHANGES,
    ("post", "auth/mfa/enrol/"): {"password": "wrong"},
    ("post", "auth/mfa/confirm/"): {"code": "123456"},
    ("post", "auth/mfa/disable/"): {"password": "wrong", "code": "123456"},
    ("post", "auth/mfa/recovery-codes/"): {"password": "wrong", "code": "123456"},
    ("post", "auth/reauthenticate/"): {"password": "wrong"},
    ("post", "auth/email/"): {"email": "new@clinic.example", "password": PASSWORD},
    ("post", "auth/passkeys/register/options/"): {"password": PASSWORD},
    ("post", "auth/passkeys/register/verify/"): {"passkey": {}, "name": "Phone"},
    ("post", "users/invitations/"): {
        "email": "new@clinic.example",
        "role": "doctor",
        "clinicName": "",
    },
    ("put", "users/{id}/"): {**CHANGES, "role": "doctor", "isActive": True},
    ("patch", "users/{id}/"): {**CHANGES, "role": "technician"},
}
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "30"))
"""Others in every run: what one run of these twenty tests does not meet, the next ones may."""
anything = settings(
    max_examples=EXAMPLES,
)


def check(answer):
    assert answer.status_code < 500, answer.content
    if answer.status_code >= 400:
        body = answer.json()
        assert set(body) == ERROR_KEYS
        assert isinstance(body["detail"], str)
        assert body["detail"]
        for problems in body["field_errors"].values():
            assert all(isinstance(problem, str) for problem in problems)


def written():
    """All that a refused request could have left behind."""
    return list(get_user_model().objects.order_by("pk").values()), Session.objects.count()


@pytest.mark.parametrize("path", PUBLIC)
@anything
@given(data=st.data())
def test_any_field_value_at_public_endpoints_has_contract_response(make_user, path, data):
    field = data.draw(st.sampled_from(sorted(PUBLIC[path])))
    body = {**PUBLIC[path], field: data.draw(VALUES)}
    before = written()
    answer = send(APIClient(), "post", path, body)
    check(answer)
    if answer.status_code >= 400:
        assert written() == before


@pytest.mark.parametrize(("method", "path"), SIGNED_IN)
@anything
@given(data=st.data())
def test_any_field_value_at_signed_in_endpoints_has_contract_response(
    administrator, doctor, sign_in, method, path, data
):
    field = data.draw(st.sampled_from(sorted(SIGNED_IN[method, path])))
    body = {**SIGNED_IN[method, path], field: data.draw(VALUES)}
    administrator.save()  # An example before may have been a new password, with the right old one.
    client = sign_in(administrator)
    before = written()
    answer = send(client, method, path.format(id=doctor.pk), body)
    check(answer)
    if answer.status_code >= 400:
        assert written() == before


@pytest.mark.parametrize("path", PUBLIC)
@anything
@given(body=VALUES)
def test_any_json_body_has_contract_response(db, path, body):
    check(send(APIClient(), "post", path, body))


@pytest.mark.parametrize("path", PUBLIC)
@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b"{",
        b'{"email": NaN}',
        b'{"email": 1e999}',
        b'{"email": "a", "email": "b"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'"' + b"x" * 10_000_000 + b'"',
        b'{"email": "' + b"x" * 10_000_000 + b'", "password": "x", "refresh": {}}',
        b'{"email": ' + b"9" * 5000 + b"}",
    ],
)
def test_bodies_that_are_no_json_object_are_refused(api, path, body):
    answer = api.generic("POST", f"/api/{path}", body, content_type="application/json")
    check(answer)
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize("path", PUBLIC)
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "nonsense", ""]
)
def test_another_media_type_is_refused(api, path, kind):
    answer = api.generic("POST", f"/api/{path}", b"email=x", content_type=kind)
    check(answer)
    assert answer.status_code in {400, 415}


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "nonsense", "*/*;q=0"])
def test_response_is_json_for_every_accept_header(api, accept):
    answer = api.post("/api/auth/login/", {}, format="json", HTTP_ACCEPT=accept)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/json"


@anything
@given(name=st.sampled_from(["search", "role", "page", "page_size"]), value=TEXT)
def test_any_query_parameter_has_contract_response(administrator, sign_in, name, value):
    value = value.encode("utf-8", "replace").decode()
    check(sign_in(administrator).get("/api/users/", {name: value}))


@anything
@given(token=TEXT)
def test_any_text_as_a_token_is_a_401(db, token):
    answer = APIClient().get("/api/auth/user/", HTTP_AUTHORIZATION=f"Bearer {token}")
    check(answer)
    assert answer.status_code == 401


@given(TEXT)
@example("İ@x.example")
@example("ß@x.example")
@example("a@ß.example")
@example("a@" + "ü" * 70 + ".example")
def test_canonical_address_is_idempotent(address):
    once = canonical_email(address)
    assert canonical_email(once) == once
    assert canonical_email(address.upper()) == canonical_email(address.upper().lower())


def test_addresses_with_control_characters_are_refused():
    with pytest.raises(ValidationError):
        clean_email('"\x01"@clinic.example')


@given(st.emails())
def test_addresses_that_are_accepted_are_stored_in_canonical_form(address):
    assert clean_email(address) == canonical_email(address)
