"""Concurrent requests with passkeys."""

from __future__ import annotations

import dataclasses

import pytest
from authenticator import Authenticator
from conftest import send
from rest_framework.test import APIClient
from test_passkeys import LIST, actions, creation_options, register, sign_in_options, verify
from test_races import statuses

from myometrics_auth.models import RecoveryCode, Session
from myometrics_auth.passkeys.models import Passkey, PasskeyChallenge

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(doctor, sign_in):
    return sign_in(doctor)


@pytest.fixture
def phone(client):
    authenticator, answer = register(client)
    assert answer.status_code == 201
    return authenticator


def test_one_response_starts_one_session(phone, run_concurrently):
    credential = phone.get(sign_in_options())
    before = Session.objects.count()
    answers = run_concurrently(lambda: verify(credential, APIClient()), times=10)
    assert statuses(answers) == {200: 1, 401: 9}
    assert Session.objects.count() == before + 1
    assert not PasskeyChallenge.objects.exists()


def test_one_challenge_signs_one_user_in(phone, make_user, sign_in, run_concurrently):
    others = [register(sign_in(make_user()))[0] for _ in range(3)]
    options = sign_in_options()
    credentials = [key.get(options) for key in (phone, *others)]
    answers = run_concurrently([lambda one=one: verify(one, APIClient()) for one in credentials])
    assert statuses(answers) == {200: 1, 401: 3}


def test_one_of_two_copies_signs_in(phone, run_concurrently, published):
    copies = [dataclasses.replace(phone) for _ in range(4)]
    credentials = [copy.get(sign_in_options()) for copy in copies]
    published.clear()
    answers = run_concurrently([lambda one=one: verify(one, APIClient()) for one in credentials])
    assert statuses(answers) == {200: 1, 401: 3}
    assert actions(published).count("passkey_counter_regressed") == 3
    assert Passkey.objects.get().sign_count == 1


def test_one_challenge_registers_one_passkey(client, run_concurrently):
    options = creation_options(client)

    def body():
        return {"passkey": Authenticator().create(options)}

    answers = run_concurrently(
        [
            lambda given=given: send(client, "post", "auth/passkeys/register/verify/", given)
            for given in [body() for _ in range(6)]
        ]
    )
    assert statuses(answers) == {201: 1, 400: 5}
    assert Passkey.objects.count() == 1


def test_first_two_passkeys_at_once_leave_one_set_of_codes(client, run_concurrently):
    bodies = [{"passkey": Authenticator().create(creation_options(client))} for _ in range(2)]
    answers = run_concurrently(
        [
            lambda given=given: send(client, "post", "auth/passkeys/register/verify/", given)
            for given in bodies
        ]
    )
    assert statuses(answers) == {201: 2}
    assert sorted(len(answer.json()["recovery_codes"]) for answer in answers) == [0, 10]
    assert RecoveryCode.objects.count() == 10


def test_erasure_and_sign_in_at_once_leave_nothing(client, phone, doctor, run_concurrently):
    credentials = [phone.get(sign_in_options()) for _ in range(3)]
    answers = run_concurrently(
        [
            *(lambda one=one: verify(one, APIClient()) for one in credentials),
            lambda: client.delete("/api/users/me/"),
        ]
    )
    assert set(statuses(answers)) <= {200, 204, 401}
    assert not Passkey.objects.exists()
    assert not Session.objects.exists()


def test_passkey_is_removed_once(client, phone, run_concurrently):
    path = f"{LIST}{client.get(LIST).json()[0]['id']}/"
    answers = run_concurrently(lambda: client.delete(path), times=5)
    assert statuses(answers) == {204: 1, 404: 4}
