"""The login throttle limits password guessing from many addresses; the owner can still sign in."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

import pytest
from conftest import NEW_PASSWORD, PASSWORD, query_of, send
from rest_framework.test import APIClient

from myometrics_auth.models import SignInFailures
from myometrics_auth.reset_links import reset_link
from myometrics_auth.services.login_throttle import login_throttle_sweep

pytestmark = pytest.mark.django_db

HOME = "198.51.100.7"


@pytest.fixture
def attempt():
    """Tries a password, each time from an address never seen before unless one is given."""
    numbers = count(1)

    def attempt(email, password, address=None):
        number = next(numbers)
        client = APIClient(REMOTE_ADDR=address or f"10.0.{number // 250}.{number % 250 + 1}")
        return send(client, "post", "auth/login/", {"email": email, "password": password})

    return attempt


@pytest.fixture
def attack(attempt):
    def attack(email, times=20, address=None):
        for _ in range(times):
            assert attempt(email, "wrong", address).status_code == 401

    return attack


def test_login_below_limit_is_accepted(doctor, attempt, attack, clock):
    attack(doctor.email, times=19)
    assert attempt(doctor.email, PASSWORD).status_code == 200


def test_login_above_limit_is_refused_like_wrong_password(doctor, attempt, attack, clock):
    attack(doctor.email)
    right, wrong = attempt(doctor.email, PASSWORD), attempt(doctor.email, "wrong")
    assert right.status_code == wrong.status_code == 401
    assert right.json() == wrong.json()
    assert right.json()["code"] == "invalid_credentials"
    assert dict(right.headers) == dict(wrong.headers)


def test_throttle_counts_every_spelling_of_an_address(doctor, attempt, attack, clock):
    attack("DOCTOR@clinic.example", times=10)
    attack("ｄoctor@clinic.example", times=10)
    assert attempt(doctor.email, PASSWORD).status_code == 401


def test_unknown_accounts_are_throttled_too(attempt, attack, clock):
    attack("unknown@clinic.example", times=25)
    assert SignInFailures.objects.get().failures == 20


def test_other_accounts_are_not_throttled(doctor, make_user, attempt, attack, clock):
    attack(doctor.email)
    assert attempt(make_user().email, PASSWORD).status_code == 200


def test_login_from_known_address_is_not_throttled(doctor, attempt, attack, clock):
    assert attempt(doctor.email, PASSWORD, HOME).status_code == 200
    attack(doctor.email, times=40)
    assert attempt(doctor.email, PASSWORD, HOME).status_code == 200


def test_failures_from_known_address_throttle_that_address(doctor, attempt, attack, clock):
    assert attempt(doctor.email, PASSWORD, HOME).status_code == 200
    attack(doctor.email, address=HOME)
    assert attempt(doctor.email, PASSWORD, HOME).status_code == 401
    assert attempt(doctor.email, PASSWORD).status_code == 200


def test_login_is_accepted_after_the_pause(doctor, attempt, attack, clock):
    attack(doctor.email, times=100)
    clock.shift(59)
    assert attempt(doctor.email, PASSWORD).status_code == 401
    clock.shift(2)
    assert attempt(doctor.email, PASSWORD).status_code == 200


def test_refused_logins_do_not_extend_the_pause(doctor, attempt, attack, clock):
    attack(doctor.email)
    for _ in range(11):
        clock.shift(5)
        attack(doctor.email, times=3)
    clock.shift(6)
    assert attempt(doctor.email, PASSWORD).status_code == 200


def test_throttle_evaluates_one_attempt_per_pause(doctor, attempt, attack, clock):
    attack(doctor.email)
    for minutes in range(1, 6):
        clock.shift(61)
        attack(doctor.email, times=10)
        assert SignInFailures.objects.get().failures == 20 + minutes
        assert attempt(doctor.email, PASSWORD).status_code == 401


def test_password_reset_ends_the_throttle(doctor, attempt, attack, clock):
    attack(doctor.email)
    link = query_of(reset_link(doctor))
    body = {**link, "new_password": NEW_PASSWORD}
    owner = APIClient(REMOTE_ADDR=HOME)
    assert send(owner, "post", "auth/password-reset/confirm/", body).status_code == 200
    attack(doctor.email)
    assert attempt(doctor.email, NEW_PASSWORD, HOME).status_code == 200


def test_successful_login_resets_failures(doctor, attempt, attack, clock):
    attack(doctor.email, times=15)
    assert attempt(doctor.email, PASSWORD).status_code == 200
    attack(doctor.email, times=15)
    assert attempt(doctor.email, PASSWORD).status_code == 200


def test_failures_expire_after_the_window(doctor, attempt, attack, clock):
    attack(doctor.email, times=19)
    clock.shift(timedelta(hours=1, seconds=1))
    attack(doctor.email, times=19)
    assert attempt(doctor.email, PASSWORD).status_code == 200


def test_limit_and_pause_are_settings(doctor, attempt, attack, clock, settings):
    settings.MYOMETRICS_AUTH = {
        "FAILED_SIGN_IN_LIMIT": 3,
        "FAILED_SIGN_IN_PAUSE": timedelta(seconds=10),
    }
    attack(doctor.email, times=3)
    assert attempt(doctor.email, PASSWORD).status_code == 401
    clock.shift(11)
    assert attempt(doctor.email, PASSWORD).status_code == 200


def test_sweep_deletes_expired_rows_without_addresses(doctor, attack, clock):
    attack(doctor.email, times=3)
    row = SignInFailures.objects.get()
    assert doctor.email not in row.key
    clock.shift(3601)
    assert login_throttle_sweep() == 1


def test_erasure_deletes_failures(doctor, attempt, attack, clock):
    answer = attempt(doctor.email, PASSWORD, HOME)
    attack(doctor.email, times=3)
    attack(doctor.email, times=3, address=HOME)
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {answer.json()['access']}")
    assert client.delete("/api/users/me/").status_code == 204
    assert not SignInFailures.objects.exists()
