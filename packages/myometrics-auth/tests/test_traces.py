"""What auth tells others: Django's signals, and activities for an audit log."""

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
    (activity,) = published
    session = client.get("/api/auth/sessions/").json()["results"][0]["id"]
    assert (activity.action, activity.actor_id) == ("login_succeeded", doctor.pk)
    assert (activity.resource_type, activity.resource_id) == ("session", session)
    assert (activity.client_address, activity.user_agent) == ("192.0.2.1", "Firefox")
    assert activity.source == "auth"


@pytest.mark.parametrize("email", ["doctor@clinic.example", "nobody@clinic.example"])
def test_failed_sign_ins_are_published_under_a_pseudonym(api, doctor, published, email):
    send(api, "post", "auth/login/", {"email": email.upper(), "password": "wrong"})
    (activity,) = published
    assert (activity.action, activity.actor_id) == ("login_failed", None)
    assert activity.resource_id == account_pseudonym(email)
    assert "clinic.example" not in str(activity)


def test_a_person_s_doings_are_published_in_order(doctor, sign_in, api, published):
    client, _other = sign_in(doctor), sign_in(doctor)
    change = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}
    send(client, "post", "auth/change-password/", change)
    sign_out(client, client.tokens["refresh"])
    actions = ["login_succeeded", "login_succeeded", "password_changed", "logout"]
    assert [activity.action for activity in published] == actions
    assert all(activity.actor_id == doctor.pk for activity in published)
    assert len({activity.id for activity in published}) == 4


def test_a_reset_is_published(doctor, api, published):
    link = query_of(reset_link(doctor))
    body = {**link, "new_password": NEW_PASSWORD}
    send(api, "post", "auth/password-reset/confirm/", body)
    (activity,) = published
    assert (activity.action, activity.actor_id) == ("password_reset", doctor.pk)
    assert (activity.resource_type, activity.resource_id) == ("user", str(doctor.pk))


def test_a_registration_is_a_sign_in(api, published):
    body = {"email": "n@x.example", "password": PASSWORD, "firstName": "N", "lastName": "X"}
    send(api, "post", "auth/register/", body)
    assert [activity.action for activity in published] == ["login_succeeded"]


def test_the_host_can_switch_sign_ins_off_but_not_administration(
    administrator, doctor, sign_in, published, settings
):
    settings.MYOMETRICS_AUTH = {"RECORD_SIGN_INS": False}
    client = sign_in(administrator)
    send(client, "patch", f"users/{doctor.pk}/", {"role": "technician"})
    sign_out(client, client.tokens["refresh"])
    assert [activity.action for activity in published] == ["user_updated"]


def test_an_administrator_s_change_tells_roles_and_switches_but_no_names(
    administrator, doctor, sign_in, published
):
    client = sign_in(administrator)
    published.clear()
    body = {"firstName": "Secretname", "clinicName": "Hidden", "role": "admin", "isActive": False}
    send(client, "put", f"users/{doctor.pk}/", body)
    (activity,) = published
    assert (activity.action, activity.actor_id) == ("user_updated", administrator.pk)
    assert (activity.resource_type, activity.resource_id) == ("user", str(doctor.pk))
    assert activity.details == {
        "changed": {
            "first_name": {},
            "clinic_name": {},
            "role": {"from": "doctor", "to": "admin"},
            "is_active": {"from": True, "to": False},
            "is_staff": {"from": False, "to": True},
        }
    }
    assert json.dumps(activity.details)


def test_a_change_that_changes_nothing_leaves_no_trace(administrator, doctor, sign_in, published):
    client = sign_in(administrator)
    published.clear()
    send(client, "put", f"users/{doctor.pk}/", {"role": "doctor", "firstName": doctor.first_name})
    assert published == []


def test_a_refused_change_leaves_no_trace(administrator, sign_in, published):
    client = sign_in(administrator)
    published.clear()
    send(client, "put", f"users/{administrator.pk}/", {"role": "doctor"})
    client.delete(f"/api/users/{administrator.pk}/")
    assert published == []


def test_an_erasure_by_an_administrator_names_them_and_the_key_alone(
    administrator, doctor, sign_in, published
):
    client = sign_in(administrator)
    published.clear()
    client.delete(f"/api/users/{doctor.pk}/")
    (activity,) = published
    assert (activity.action, activity.actor_id) == ("user_deleted", administrator.pk)
    assert (activity.resource_id, activity.details) == (str(doctor.pk), {"by": "administrator"})


def test_an_erasure_by_oneself_names_nobody(doctor, sign_in, published):
    client = sign_in(doctor, REMOTE_ADDR="192.0.2.1")
    published.clear()
    client.delete("/api/users/me/")
    (activity,) = published
    assert (activity.action, activity.actor_id, activity.client_address) == (
        "user_deleted",
        None,
        None,
    )
