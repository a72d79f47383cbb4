"""Specification: "Notification Settings Endpoints"."""

from __future__ import annotations

import pytest
from specified import DEFAULT_SWITCHES, ERROR_KEYS, SETTINGS_URL

from myometrics_notifications.models import NotificationSettings
from myometrics_notifications.selectors import switches
from myometrics_notifications.views import MyNotificationSettingsView


def stored(person):
    row = NotificationSettings.objects.filter(user=person).first()
    return row and switches(row)


def test_first_look_shows_the_specified_defaults_and_makes_the_row(person, client_of):
    response = client_of(person).get(SETTINGS_URL)

    assert response.status_code == 200
    assert response.json() == DEFAULT_SWITCHES
    assert stored(person) == DEFAULT_SWITCHES


def test_any_subset_of_switches_can_be_turned(person, client_of):
    response = client_of(person).patch(
        SETTINGS_URL, {"email_notifications": False, "system_alerts": True}, format="json"
    )

    assert response.status_code == 200
    assert response.json() == {
        **DEFAULT_SWITCHES,
        "email_notifications": False,
        "system_alerts": True,
    }
    assert stored(person) == response.json()
    assert client_of(person).get(SETTINGS_URL).json() == response.json()


def test_an_empty_patch_changes_nothing(person, client_of):
    assert client_of(person).patch(SETTINGS_URL, {}, format="json").json() == DEFAULT_SWITCHES


def test_unknown_keys_are_ignored(person, client_of):
    body = {"analysis_ready": False, "sms": True, "id": 7, "user": 1, "host_switches": {"x": True}}

    response = client_of(person).patch(SETTINGS_URL, body, format="json")

    assert response.json() == {**DEFAULT_SWITCHES, "analysis_ready": False}
    assert NotificationSettings.objects.get(user=person).host_switches == {}


@pytest.mark.parametrize("value", [1, 0, "true", "false", "", None, [], {}, [True], 1.0, "\x00"])
@pytest.mark.parametrize("name", DEFAULT_SWITCHES)
def test_only_json_booleans_turn_a_switch_and_nothing_is_half_written(
    person, client_of, name, value
):
    other = "analysis_ready" if name != "analysis_ready" else "upload_completed"

    response = client_of(person).patch(SETTINGS_URL, {other: False, name: value}, format="json")

    assert response.status_code == 400
    body = response.json()
    assert set(body) == ERROR_KEYS
    assert list(body["field_errors"]) == [name]
    assert body["detail"].startswith(f"{name}: ")
    assert stored(person) in (None, DEFAULT_SWITCHES)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"text"', b"{", b'{"system_alerts": NaN}', b"null", b"1", b"\xff"]
)
def test_a_body_that_is_no_object_is_a_400_or_changes_nothing(person, client_of, body):
    response = client_of(person).patch(SETTINGS_URL, body, content_type="application/json")

    assert response.status_code == (200 if body == b"" else 400)
    assert stored(person) in (None, DEFAULT_SWITCHES)
    if response.status_code == 400:
        assert set(response.json()) == ERROR_KEYS


def test_deep_nesting_is_refused_and_ten_megabytes_change_nothing(person, client_of):
    deep = b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    long = b'{"x": "' + b"a" * 10_000_000 + b'"}'

    assert (
        client_of(person).patch(SETTINGS_URL, deep, content_type="application/json").status_code
        == 400
    )
    assert (
        client_of(person).patch(SETTINGS_URL, long, content_type="application/json").status_code
        == 413
    )
    assert stored(person) in (None, DEFAULT_SWITCHES)


@pytest.mark.parametrize("method", ["put", "post", "delete", "options"])
def test_only_get_and_patch_are_offered(person, client_of, method):
    response = getattr(client_of(person), method)(
        SETTINGS_URL, {"system_alerts": True}, format="json"
    )

    assert response.status_code == 405
    assert response.json()["code"] == "method_not_allowed"
    assert stored(person) is None


def test_nobody_signed_in_is_a_401(db, client):
    assert client.get(SETTINGS_URL).status_code in (401, 403)
    assert client.patch(SETTINGS_URL, "{}", content_type="application/json").status_code in (
        401,
        403,
    )
    assert NotificationSettings.objects.count() == 0


def test_each_person_has_switches_of_their_own(make_person, client_of):
    one, other = make_person(), make_person()

    client_of(one).patch(SETTINGS_URL, {"system_alerts": True}, format="json")

    assert client_of(other).get(SETTINGS_URL).json() == DEFAULT_SWITCHES


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("used_before", [True, False])
def test_a_person_deleted_meanwhile_is_a_401(make_person, client_of, used_before):
    person = make_person()
    client = client_of(person)
    if used_before:
        client.get(SETTINGS_URL)
    type(person).objects.filter(pk=person.pk).delete()

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
def test_twenty_first_uses_at_once_make_one_row(make_person, client_of, run_concurrently):
    person = make_person()

    responses = run_concurrently(lambda: client_of(person).get(SETTINGS_URL), times=20)

    assert [response.status_code for response in responses] == [200] * 20
    assert NotificationSettings.objects.filter(user=person).count() == 1


@pytest.mark.django_db(transaction=True)
def test_switches_turned_at_the_same_time_are_all_turned(make_person, client_of, run_concurrently):
    person = make_person()
    turns = [{name: not DEFAULT_SWITCHES[name]} for name in DEFAULT_SWITCHES]

    responses = run_concurrently(
        [
            lambda turn=turn: client_of(person).patch(SETTINGS_URL, turn, format="json")
            for turn in turns
        ],
        times=3,
    )

    assert [response.status_code for response in responses] == [200] * 3 * len(DEFAULT_SWITCHES)
    assert stored(person) == {name: not on for name, on in DEFAULT_SWITCHES.items()}
