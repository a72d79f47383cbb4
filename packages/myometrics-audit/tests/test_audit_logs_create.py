"""Specification: "POST /audit-logs/"."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test.utils import isolate_apps
from rest_framework.test import APIClient

from myometrics_audit import audit
from myometrics_audit.models import AuditLog, Leaf
from myometrics_audit.tracking import recorded
from myometrics_core.events import bus

pytestmark = pytest.mark.django_db

URL = "/api/audit-logs/"
BODY = {
    "action": "upload_created",
    "resource_type": "upload",
    "resource_id": "upload_001",
    "details": {"filename": "cardiac_scan.jpg", "file_size": 2048576, "diagnosis": "Normal"},
}


def test_create_returns_the_specified_shape(user, client_of):
    answer = client_of(user).post(
        URL, BODY, format="json", HTTP_USER_AGENT="Mozilla/5.0", REMOTE_ADDR="192.168.1.100"
    )
    assert answer.status_code == 201
    body = answer.json()
    entry = AuditLog.objects.get()
    assert list(body) == [
        "id",
        "user_id",
        "action",
        "resource_type",
        "resource_id",
        "timestamp",
        "ip_address",
        "user_agent",
        "details",
    ]
    assert body["timestamp"].endswith("Z")
    assert body | {"timestamp": ""} == {
        **BODY,
        "id": entry.pk,
        "user_id": str(user.pk),
        "timestamp": "",
        "ip_address": "192.168.1.100",
        "user_agent": "Mozilla/5.0",
    }


def test_create_ignores_fields_set_by_the_server(user, administrator, client_of):
    chosen = {
        "id": 77,
        "user_id": str(administrator.pk),
        "user": str(administrator.pk),
        "ip_address": "1.2.3.4",
        "user_agent": "chosen",
        "timestamp": "2001-01-01T00:00:00Z",
        "nonce": "00",
        "origin": "server",
    }
    body = client_of(user).post(URL, BODY | chosen, format="json").json()
    assert body["user_id"] == str(user.pk)
    assert body["ip_address"] == "127.0.0.1"
    assert body["user_agent"] == ""
    assert not body["timestamp"].startswith("2001")
    assert AuditLog.objects.get().origin == "client"


def test_create_ignores_a_forged_forwarding_header(user, client_of):
    answer = client_of(user).post(URL, BODY, format="json", HTTP_X_FORWARDED_FOR="1.2.3.4")
    assert answer.json()["ip_address"] == "127.0.0.1"


def test_create_defaults_details_to_an_empty_object(user, client_of):
    body = {name: BODY[name] for name in ("action", "resource_type", "resource_id")}
    assert client_of(user).post(URL, body, format="json").json()["details"] == {}


def test_create_truncates_a_long_user_agent(user, client_of):
    answer = client_of(user).post(URL, BODY, format="json", HTTP_USER_AGENT="x" * 5000)
    assert len(answer.json()["user_agent"]) == 1024


def test_create_accepts_details_of_at_most_64_kib(user, client_of):
    text = "x" * (64 * 1024 - len('{"text":""}'))
    client = client_of(user)
    assert client.post(URL, BODY | {"details": {"text": text}}, format="json").status_code == 201
    answer = client.post(URL, BODY | {"details": {"text": text + "x"}}, format="json")
    assert answer.status_code == 400
    assert list(answer.json()["field_errors"]) == ["details"]


def _deep(levels):
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"deeper": value}
    return value


META = type("Meta", (), {"proxy": True, "app_label": "auth"})

BAD_FIELDS = [
    ("action", None),
    ("action", ""),
    ("action", "   "),
    ("action", 5),
    ("action", True),
    ("action", ["upload"]),
    ("action", {"a": 1}),
    ("action", "x" * 51),
    ("action", "nul\x00"),
    ("action", "\ud800"),
    ("resource_type", None),
    ("resource_type", "x" * 51),
    ("resource_type", 10**400),
    ("resource_id", 7),
    ("resource_id", "x" * 101),
    ("resource_id", "\udfff"),
    ("details", None),
    ("details", []),
    ("details", "text"),
    ("details", 1),
    ("details", {"a": "nul\x00"}),
    ("details", {"nul\x00": 1}),
    ("details", {"a": "\ud800"}),
    ("details", {"\ud800": 1}),
    ("details", {"a": 10**400}),
    ("details", {"a": [1e308] * 250}),
    ("details", _deep(40)),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS, ids=lambda value: str(value)[:20])
def test_create_with_invalid_field_returns_400_and_writes_nothing(user, client_of, field, value):
    answer = client_of(user).post(
        URL, json.dumps(BODY | {field: value}), content_type="application/json"
    )
    assert answer.status_code == 400
    assert list(answer.json()) == ["detail", "code", "field_errors"]
    assert next(iter(answer.json()["field_errors"])).startswith(field)
    assert not AuditLog.objects.exists()
    assert not Leaf.objects.exists()


RESERVED = ["data_exported", "system_down", "system_recovered", " system_down\n"]


@pytest.mark.parametrize("action", RESERVED)
def test_create_with_reserved_action_returns_400_and_writes_nothing(
    user, administrator, client_of, action
):
    for caller in (user, administrator):
        answer = client_of(caller).post(URL, BODY | {"action": action}, format="json")
        assert answer.status_code == 400
        assert answer.json() == {
            "detail": "action: Only the server records this action.",
            "code": "reserved_action",
            "field_errors": {"action": ["Only the server records this action."]},
        }
    assert not AuditLog.objects.exists()
    assert not Leaf.objects.exists()


@isolate_apps("django.contrib.auth")
def test_actions_of_recorded_models_and_subclasses_are_reserved(user, client_of):
    class Team(Group):
        class Meta:
            proxy = True
            app_label = "auth"

    recorded()(Group)
    client = client_of(user)
    for name in ("group", "team"):
        for verb in ("created", "updated", "deleted"):
            answer = client.post(URL, BODY | {"action": f"{name}_{verb}"}, format="json")
            assert (answer.status_code, answer.json()["code"]) == (400, "reserved_action")
    assert client.post(URL, BODY | {"action": "group_viewed"}, format="json").status_code == 201


def test_long_actions_of_recorded_models_are_reserved_truncated(user, client_of):
    with isolate_apps("django.contrib.auth"):
        recorded()(type("X" * 60, (Group,), {"Meta": META, "__module__": __name__}))
    for verb in ("created", "deleted"):
        action = f"{'x' * 60}_{verb}"[-50:]
        answer = client_of(user).post(URL, BODY | {"action": action}, format="json")
        assert (answer.status_code, answer.json()["code"]) == (400, "reserved_action")


UPLOAD_ACTIONS = (
    "upload_created",
    "upload_processing",
    "upload_completed",
    "upload_failed",
    "analysis_ready",
)


@pytest.mark.parametrize(
    "action", [*UPLOAD_ACTIONS, "logout", "login", "view", "System_Down", "system_downs"]
)
def test_create_accepts_unreserved_actions(user, client_of, action):
    with isolate_apps("django.contrib.auth"):
        recorded()(type("Upload", (Group,), {"Meta": META, "__module__": __name__}))
    answer = client_of(user).post(URL, BODY | {"action": action}, format="json")
    assert answer.status_code == 201
    assert answer.json()["action"] == action


def test_site_code_and_imports_can_record_reserved_actions():
    for origin in ("server", "import"):
        audit.record(actor=None, action="system_down", resource=("a", 1), origin=origin)
    assert AuditLog.objects.count() == 2


@pytest.mark.parametrize("field", ["action", "resource_type", "resource_id"])
def test_create_requires_the_required_fields(user, client_of, field):
    body = {name: value for name, value in BODY.items() if name != field}
    answer = client_of(user).post(URL, body, format="json")
    assert answer.status_code == 400
    assert list(answer.json()["field_errors"]) == [field]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"text"',
        "null",
        '{"details": {"a": NaN}}',
        '{"details": {"a": 1e999}}',
        '{"a":' * 100_000,
        '{"details": {"a": ' + "9" * 10_000 + "}}",
        "\xff",
    ],
    ids=lambda text: text[:20] or "empty",
)
def test_create_with_body_other_than_object_returns_400(user, client_of, text):
    answer = client_of(user).generic("POST", URL, text.encode("latin-1"), "application/json")
    assert answer.status_code == 400
    assert list(answer.json()) == ["detail", "code", "field_errors"]
    assert not AuditLog.objects.exists()


def test_create_with_form_data_returns_415(user, client_of):
    answer = client_of(user).post(URL, {"action": "x"}, format="multipart")
    assert answer.status_code == 415
    assert answer.json()["code"] == "unsupported_media_type"


def test_create_when_anonymous_returns_401():
    answer = APIClient().post(URL, BODY, format="json")
    assert answer.status_code in {401, 403}
    assert list(answer.json()) == ["detail", "code", "field_errors"]


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
def test_list_rejects_other_methods_for_every_role(user, administrator, client_of, method):
    for caller in (user, administrator):
        answer = getattr(client_of(caller), method)(URL, BODY, format="json")
        assert answer.status_code == 405
        assert answer.json()["code"] == "method_not_allowed"


def test_create_publishes_the_stored_values(user, client_of):
    received: list[bus.Event] = []
    bus.register_receiver("test", received.append)
    try:
        body = client_of(user).post(URL, BODY, format="json").json()
    finally:
        bus._receivers.pop("test")
    (published,) = received
    assert published.id == f"audit:{body['id']}"
    assert published.actor_id == user.pk
    assert published.details == BODY["details"]
    assert published.client_address == "127.0.0.1"
    assert published.origin == "client"


def test_create_keeps_the_entry_if_a_receiver_fails(user, client_of):
    def fail(event):
        AuditLog.objects.create(action="half", resource_type="done", resource_id="1")
        raise RuntimeError("on purpose")

    bus.register_receiver("test", fail)
    try:
        answer = client_of(user).post(URL, BODY, format="json")
    finally:
        bus._receivers.pop("test")
    assert answer.status_code == 201
    assert AuditLog.objects.get().action == "upload_created"


@pytest.mark.django_db(transaction=True)
def test_create_returns_401_if_the_caller_is_deleted_concurrently(user, client_of):
    client = client_of(user)
    type(user).objects.filter(pk=user.pk).delete()
    answer = client.post(URL, BODY, format="json")
    assert answer.status_code == 401
    assert list(answer.json()) == ["detail", "code", "field_errors"]
    assert answer.json()["code"] == "token_not_valid"
    assert not AuditLog.objects.exists()
    assert not Leaf.objects.exists()
