"""Events and Django signals of auth."""

from __future__ import annotations

import json

import pytest
from conftest import NEW_PASSWORD, PASSWORD, query_of, send, sign_out
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed

from myometrics_auth.reset_links import reset_link
from myometrics_core.users import account_pseudonym

pytestmark = pytest.mark.django_db


@pytest.fixture
def signals():
    """What Django's sign-in signals brought: (name, keyword arguments)."""
    seen = []
    receivers = []
    for name, signal in (
        ("in", user_logged_in),
        ("out", user_logged_out),
        ("failed", user_login_failed),
    ):

        def receive(sender, name=name, **kwargs):
            seen.append((name, kwargs))

        signal.connect(receive, weak=False)
        receivers.append((signal, receive))
    yield seen
    for signal, receive in receivers:
        signal.disconnect(receive)


def test_a_sign_in_sends_django_s_signal_with_user_and_request(doctor, sign_in, signals):
    sign_in(doctor)
    ((name, sent),) = signals
    assert (name, sent["user"]) == ("in", doctor)
    assert sent["request"].path == "/api/auth/login/"


def test_a_failed_sign_in_sends_it_without_the_password(api, doctor, signals):
    body = {"email": doctor.email, "password": "wrong"}
    send(api, "post", "auth/login/", body)
    ((name, sent),) = signals
    assert name == "failed"
    assert sent["credentials"]["username"] == doctor.email
    assert "wrong" not in str(sent["credentials"])


def test_a_sign_out_sends_it(doctor, sign_in, signals):
    client = sign_in(doctor)
    sign_out(client, client.tokens["refresh"])
    assert [name for name, _ in signals] == ["in", "out"]


def test_sign_ins_are_published_with_actor_address_and_agent(doctor, sign_in, published):
    client = sign_in(doctor, HTTP_USER_AGENT="Firefox", REMOTE_ADDR="192.0.2.1")
    (event,) = published
    session = client.get("/api/auth/sessions/").json()["results"][0]["id"]
    assert (event.action, event.actor_id) == ("login_succeeded", doctor.pk)
    assert (event.resource_type, event.resource_id) == ("session", session)
    assert (event.client_address, event.user_agent) == ("192.0.2.1", "Firefox")
    assert event.source == "auth"


@pytest.mark.parametrize("email", ["doctor@clinic.example", "unknown@clinic.example"])
def test_failed_sign_ins_are_published_under_a_pseudonym(api, doctor, published, email):
    send(api, "post", "auth/login/", {"email": email.upper(), "password": "wrong"})
    (event,) = published
    assert (event.action, event.actor_id) == ("login_failed", None)
    assert event.resource_id == account_pseudonym(email)
    assert "clinic.example" not in str(event)


def test_actions_of_a_user_are_published_in_order(doctor, sign_in, api, published):
    client, _other = sign_in(doctor), sign_in(doctor)
    change = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}
    send(client, "post", "auth/change-password/", change)
    sign_out(client, client.tokens["refresh"])
    actions = ["login_succeeded", "login_succeeded", "password_changed", "logout"]
    assert [event.action for event in published] == actions
    assert all(event.actor_id == doctor.pk for event in published)
    assert len({event.id for event in published}) == 4


def test_a_reset_is_published(doctor, api, published):
    link = query_of(reset_link(doctor))
    body = {**link, "new_password": NEW_PASSWORD}
    send(api, "post", "auth/password-reset/confirm/", body)
    (event,) = published
    assert (event.action, event.actor_id) == ("password_reset", doctor.pk)
    assert (event.resource_type, event.resource_id) == ("user", str(doctor.pk))


def test_a_registration_is_a_sign_in(api, published):
    body = {"email": "n@x.example", "password": PASSWORD, "firstName": "N", "lastName": "X"}
    send(api, "post", "auth/register/", body)
    assert [event.action for event in published] == ["login_succeeded"]


def test_record_sign_ins_off_keeps_administration_events(
    administrator, doctor, sign_in, published, settings
):
    settings.MYOMETRICS_AUTH = {"RECORD_SIGN_INS": False}
    client = sign_in(administrator)
    send(client, "patch", f"users/{doctor.pk}/", {"role": "technician"})
    sign_out(client, client.tokens["refresh"])
    assert [event.action for event in published] == ["user_updated"]


def test_user_updated_contains_roles_and_flags_but_no_names(
    administrator, doctor, sign_in, published
):
    client = sign_in(administrator)
    published.clear()
    body = {"firstName": "Secretname", "clinicName": "Hidden", "role": "admin", "isActive": False}
    send(client, "put", f"users/{doctor.pk}/", body)
    (event,) = published
    assert (event.action, event.actor_id) == ("user_updated", administrator.pk)
    assert (event.resource_type, event.resource_id) == ("user", str(doctor.pk))
    assert event.details == {
        "changed": {
            "first_name": {},
            "clinic_name": {},
            "role": {"from": "doctor", "to": "admin"},
            "is_active": {"from": True, "to": False},
            "is_staff": {"from": False, "to": True},
        }
    }
    assert json.dumps(event.details)


def test_unchanged_user_publishes_nothing(administrator, doctor, sign_in, published):
    client = sign_in(administrator)
    published.clear()
    send(client, "put", f"users/{doctor.pk}/", {"role": "doctor", "firstName": doctor.first_name})
    assert published == []


def test_refused_change_publishes_nothing(administrator, sign_in, published):
    client = sign_in(administrator)
    published.clear()
    send(client, "put", f"users/{administrator.pk}/", {"role": "doctor"})
    client.delete(f"/api/users/{administrator.pk}/")
    assert published == []


def test_erasure_by_administrator_publishes_actor_and_key_only(
    administrator, doctor, sign_in, published
):
    client = sign_in(administrator)
    published.clear()
    client.delete(f"/api/users/{doctor.pk}/")
    (event,) = published
    assert (event.action, event.actor_id) == ("user_deleted", administrator.pk)
    assert (event.resource_id, event.details) == (str(doctor.pk), {"by": "administrator"})


def test_self_erasure_publishes_no_actor(doctor, sign_in, published):
    client = sign_in(doctor, REMOTE_ADDR="192.0.2.1")
    published.clear()
    client.delete("/api/users/me/")
    (event,) = published
    assert (event.action, event.actor_id, event.client_address) == (
        "user_deleted",
        None,
        None,
    )
