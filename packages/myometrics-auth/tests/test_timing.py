"""How long an answer takes says nothing about whether an account exists."""

from __future__ import annotations

from statistics import median
from time import process_time

import pytest
from conftest import PASSWORD, send
from django.test import Client
from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db

ROUNDS = 25
BOUND = 0.75
"""The quicker median may be no less than this part of the slower."""


@pytest.fixture(autouse=True)
def _measurable_hash(settings):
    settings.PASSWORD_HASHERS = ["hosts_own.QuickPBKDF2"]
    settings.MYOMETRICS_AUTH = {"FAILED_SIGN_IN_LIMIT": 10_000}


def spread(*calls):
    """The quickest over the slowest of the calls' median times, measured in turn."""
    times = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, taken in zip(calls, times, strict=True):
            started = process_time()
            call()
            taken.append(process_time() - started)
    medians = [median(taken) for taken in times]
    return min(medians) / max(medians)


def login(email, password="wrong", status=401):
    body = {"email": email, "password": password}

    def call():
        assert send(APIClient(), "post", "auth/login/", body).status_code == status

    return call


def admin_login(email, password="wrong"):
    def call():
        form = {"username": email, "password": password}
        assert Client().post("/admin/login/", form).status_code == 200

    return call


def reset(email):
    def call():
        answer = send(APIClient(), "post", "auth/password-reset/", {"email": email})
        assert answer.status_code == 200

    return call


def test_sign_in_takes_as_long_for_unknown_wrong_inactive_and_passwordless(make_user):
    known, inactive = make_user(), make_user(is_active=False)
    without = make_user(password=None)
    assert (
        spread(
            login("nobody@clinic.example"),
            login(known.email),
            login(inactive.email, PASSWORD),
            login(without.email),
        )
        >= BOUND
    )


def test_sign_in_that_the_guard_refuses_takes_as_long(make_user, settings):
    settings.MYOMETRICS_AUTH = {"FAILED_SIGN_IN_LIMIT": 1}
    guessed = make_user()
    login(guessed.email)()
    assert spread(login(guessed.email), login(guessed.email, PASSWORD)) >= BOUND


def test_admin_login_takes_as_long_for_unknown_wrong_inactive_and_not_staff(make_user):
    known, others = make_user(is_staff=True), make_user()
    inactive = make_user(is_active=False, is_staff=True)
    assert (
        spread(
            admin_login("nobody@clinic.example"),
            admin_login(known.email),
            admin_login(inactive.email, PASSWORD),
            admin_login(others.email, PASSWORD),
        )
        >= BOUND
    )


def test_reset_takes_as_long_for_known_and_unknown(make_user):
    assert spread(reset("nobody@clinic.example"), reset(make_user().email)) >= BOUND


def test_the_measure_tells_a_backend_that_skips_the_hash(make_user, settings):
    settings.AUTHENTICATION_BACKENDS = ["hosts_own.HastyBackend"]
    assert spread(login("nobody@clinic.example"), login(make_user().email)) < BOUND
