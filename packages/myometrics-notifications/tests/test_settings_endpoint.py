"""Specification: "Notification Settings Endpoints"."""

from __future__ import annotations

import pytest
from specified import DEFAULT_SWITCHES, ERROR_KEYS, SETTINGS_URL

from myometrics_notifications.models import NotificationSettings
from myometrics_notifications.selectors import switches
from myometrics_notifications.views import MyNotificationSettingsView


def stored(user):
    row = NotificationSettings.objects.filter(user=user).first()
    return row and switches(row)


def test_first_get_returns_the_defaults_and_creates_the_row(user, client_of):
    response = client_of(user).get(SETTINGS_URL)

    assert response.status_code == 200
    assert response.json() == DEFAULT_SWITCHES
    assert stored(user) == DEFAULT_SWITCHES


def test_patch_accepts_any_subset_of_switches(user, client_of):
    response = client_of(user).patch(
        SETTINGS_URL, {"email_notifications": False, "system_alerts": True}, format="json"
    )

    assert response.status_code == 200
    assert response.json() == {
        **DEFAULT_SWITCHES,
        "email_notifications": False,
        "system_alerts": True,
    }
    assert stored(user) == response.json()
    assert client_of(user).get(SETTINGS_URL).json() == response.json()


def test_empty_patch_changes_nothing(user, client_of):
    assert client_of(user).patch(SETTINGS_URL, {}, format="json").json() == DEFAULT_SWITCHES


def test_unknown_keys_are_ignored(user, client_of):
    body = {"analysis_ready": False, "sms": True, "id": 7, "user": 1, "host_switches": {"x": True}}

    response = client_of(user).patch(SETTINGS_URL, body, format="json")

    assert response.json() == {**DEFAULT_SWITCHES, "analysis_ready": False}
    assert NotificationSettings.objects.get(user=user).host_switches == {}


@pytest.mark.parametrize("value", [1, 0, "true", "false", "", None, [], {}, [True], 1.0, "\x00"])
@pytest.mark.parametrize("name", DEFAULT_SWITCHES)
def test_patch_accepts_only_json_booleans_and_is_atomic(user, client_of, name, value):
    other = "analysis_ready" if name != "analysis_ready" else "upload_completed"

    response = client_of(user).patch(SETTINGS_URL, {other: False, name: value}, format="json")

    assert response.status_code == 400
    body = response.json()
    assert set(body) == ERROR_KEYS
    assert list(body["field_errors"]) == [name]
    assert body["detail"].startswith(f"{name}: ")
    assert stored(user) in (None, DEFAULT_SWITCHES)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"text"', b"{", b'{"system_alerts": NaN}', b"null", b"1", b"\xff"]
)
def test_patch_with_invalid_body_changes_nothing(user, client_of, body):
    response = client_of(user).patch(SETTINGS_URL, body, content_type="application/json")

    assert response.status_code == (200 if body == b"" else 400)
    assert stored(user) in (None, DEFAULT_SWITCHES)
    if response.status_code == 400:
        assert set(response.json()) == ERROR_KEYS


def test_deep_nesting_and_large_bodies_are_refused(user, client_of):
    deep = b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    long = b'{"x": "' + b"a" * 10_000_000 + b'"}'

    assert (
        client_of(user).patch(SETTINGS_URL, deep, content_type="application/json").status_code
        == 400
    )
    assert (
        client_of(user).patch(SETTINGS_URL, long, content_type="application/json").status_code
        == 413
    )
    assert stored(user) in (None, DEFAULT_SWITCHES)


@pytest.mark.parametrize("method", ["put", "post", "delete", "options"])
def test_other_methods_are_not_allowed(user, client_of, method):
    response = getattr(client_of(user), method)(
        SETTINGS_URL, {"system_alerts": True}, format="json"
    )

    assert response.status_code == 405
    assert response.json()["code"] == "method_not_allowed"
    assert stored(user) is None


def test_anonymous_request_is_a_401(db, client):
    assert client.get(SETTINGS_URL).status_code in (401, 403)
    assert client.patch(SETTINGS_URL, "{}", content_type="application/json").status_code in (
        401,
        403,
    )
    assert NotificationSettings.objects.count() == 0


def test_switches_belong_to_one_user(make_user, client_of):
    one, other = make_user(), make_user()

    client_of(one).patch(SETTINGS_URL, {"system_alerts": True}, format="json")

    assert client_of(other).get(SETTINGS_URL).json() == DEFAULT_SWITCHES


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("used_before", [True, False])
def test_concurrently_deleted_user_is_a_401(make_user, client_of, used_before):
    user = make_user()
    client = client_of(user)
    if used_before:
        client.get(SETTINGS_URL)
    type(user).objects.filter(pk=user.pk).delete()

    answers = [
        client.patch(SETTINGS_URL, {"system_alerts": True}, format="json"),
        client.get(SETTINGS_URL),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
    assert NotificationSettings.objects.count() == 0


def test_requests_count_in_the_api_bucket():
    assert MyNotificationSettingsView.throttle_bucket == "api"


@pytest.mark.django_db(transaction=True)
def test_concurrent_first_requests_create_one_row(make_user, client_of, run_concurrently):
    user = make_user()

    responses = run_concurrently(lambda: client_of(user).get(SETTINGS_URL), times=20)

    assert [response.status_code for response in responses] == [200] * 20
    assert NotificationSettings.objects.filter(user=user).count() == 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_patches_are_all_applied(make_user, client_of, run_concurrently):
    user = make_user()
    turns = [{name: not DEFAULT_SWITCHES[name]} for name in DEFAULT_SWITCHES]

    responses = run_concurrently(
        [
            lambda turn=turn: client_of(user).patch(SETTINGS_URL, turn, format="json")
            for turn in turns
        ],
        times=3,
    )

    assert [response.status_code for response in responses] == [200] * 3 * len(DEFAULT_SWITCHES)
    assert stored(user) == {name: not on for name, on in DEFAULT_SWITCHES.items()}
