"""A reset by mail removes previous access to an unverified account."""

from __future__ import annotations

import pyotp
import pytest
import time_machine
from conftest import NEW_PASSWORD, PASSWORD, enrol, query_of, refresh_by, send
from django.contrib.auth import get_user_model
from django.core.management import call_command
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from rest_framework.test import APIClient

from myometrics_auth.models import RecoveryCode, Session, TotpDevice
from myometrics_auth.reset_links import reset_link
from myometrics_auth.services.users import user_update
from myometrics_core.times import utc_now

EMAIL = "owner@clinic.example"
REGISTRATION = {"email": EMAIL, "password": PASSWORD, "firstName": "A", "lastName": "B"}
ATTACKER = "203.0.113.9"
HOME = "198.51.100.7"


def register():
    """A client that has registered the owner's address, as ``sign_in`` gives them."""
    client = APIClient(REMOTE_ADDR=ATTACKER)
    answer = send(client, "post", "auth/register/", REGISTRATION)
    assert answer.status_code == 201
    client.tokens = answer.json()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {client.tokens['access']}")
    return client


def account():
    return get_user_model().objects.get(email=EMAIL)


def reset(link=None, password=NEW_PASSWORD):
    body = {**query_of(link or reset_link(account())), "new_password": password}
    return send(APIClient(REMOTE_ADDR=HOME), "post", "auth/password-reset/confirm/", body)


def log_in(password, address=HOME):
    body = {"email": EMAIL, "password": password}
    return send(APIClient(REMOTE_ADDR=address), "post", "auth/login/", body)


@pytest.mark.django_db
class TestReset:
    def test_removes_the_factors_of_a_self_registered_unverified_account(self, clock, published):
        enrol(register())
        published.clear()
        assert reset().status_code == 200
        assert "access" in log_in(NEW_PASSWORD).json()
        assert not TotpDevice.objects.exists()
        assert not RecoveryCode.objects.exists()
        actions = [(event.action, event.actor_id) for event in published]
        assert actions[:2] == [
            ("second_factor_disabled", account().pk),
            ("password_reset", account().pk),
        ]

    def test_removes_an_enrolment_that_is_not_confirmed_without_an_entry(self, clock, published):
        send(register(), "post", "auth/mfa/enrol/", {"password": PASSWORD})
        published.clear()
        assert reset().status_code == 200
        assert not TotpDevice.objects.exists()
        assert [event.action for event in published] == ["password_reset"]

    def test_removes_trusted_addresses_of_the_login_throttle(self, clock):
        register()
        for _ in range(3):
            log_in("wrong", ATTACKER)
        reset()
        for _ in range(20):
            log_in("wrong", ATTACKER)
        # The attacker's address counts as unknown: failures throttle it.
        assert log_in(NEW_PASSWORD, "192.0.2.77").status_code == 401
        assert log_in(NEW_PASSWORD, ATTACKER).status_code == 401
        assert log_in(NEW_PASSWORD).status_code == 200

    def test_removes_sessions_of_the_registering_user(self, clock):
        client = register()
        reset()
        assert client.get("/api/auth/user/").status_code == 401
        assert not Session.objects.exists()

    def test_verifies_the_address_once(self, clock):
        register()
        assert account().verified_at is None
        reset()
        verified_at = account().verified_at
        assert verified_at == utc_now()
        clock.shift(3600)
        reset(password="another-fine-word-99")
        assert account().verified_at == verified_at

    def test_keeps_the_factors_of_a_verified_account(self, clock, published):
        register()
        reset()
        owner = APIClient()
        tokens = log_in(NEW_PASSWORD).json()
        owner.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens['access']}")
        answer = send(owner, "post", "auth/mfa/enrol/", {"password": NEW_PASSWORD})
        app = pyotp.parse_uri(answer.json()["otpauth_url"])
        send(owner, "post", "auth/mfa/confirm/", {"code": app.at(utc_now())})
        published.clear()
        assert reset(password="another-fine-word-99").status_code == 200
        assert log_in("another-fine-word-99").json()["mfa_required"] is True
        assert "second_factor_disabled" not in [event.action for event in published]

    def test_refused_reset_removes_and_verifies_nothing(self, clock):
        enrol(register())
        link = reset_link(account())
        assert reset(link, password="12345").status_code == 400
        assert reset(link.replace("token=", "token=x")).status_code == 400
        assert TotpDevice.objects.exists()
        assert account().verified_at is None

    def test_link_to_a_replaced_address_is_refused(self, clock, administrator):
        register()
        link = reset_link(account())
        user_update(
            actor=administrator,
            user_id=account().pk,
            changes={"email": "new@clinic.example"},
            request=None,
        )
        body = {**query_of(link), "new_password": NEW_PASSWORD}
        answer = send(APIClient(), "post", "auth/password-reset/confirm/", body)
        assert answer.status_code == 400
        assert get_user_model().objects.get(email="new@clinic.example").verified_at is None


def make_by_superuser_command():
    call_command("createsuperuser", email=EMAIL, interactive=False, verbosity=0)
    user = account()
    user.set_password(PASSWORD)
    user.save()


def make_by_manager():
    get_user_model().objects.create_user(EMAIL, PASSWORD)


def make_by_the_previous_release():
    make_by_manager()
    get_user_model().objects.update(self_registered=None, verified_at=None)


def make_by_changing_the_address_of_a_registered_one():
    body = {**REGISTRATION, "email": "typo@clinic.example"}
    assert send(APIClient(), "post", "auth/register/", body).status_code == 201
    user = get_user_model().objects.get()
    user_update(actor=user, user_id=user.pk, changes={"email": EMAIL}, request=None)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "make",
    [
        make_by_superuser_command,
        make_by_manager,
        make_by_the_previous_release,
        make_by_changing_the_address_of_a_registered_one,
    ],
)
def test_reset_keeps_the_factors_of_accounts_made_otherwise(clock, sign_in, make):
    make()
    user = account()
    assert not user.self_registered
    assert user.verified_at is None
    enrol(sign_in(user))
    assert reset().status_code == 200
    assert log_in(NEW_PASSWORD).json()["mfa_required"] is True
    assert account().verified_at is not None


class Attacker:
    """Holds the account before its owner does; each method is a step, whatever comes of it."""

    def __init__(self):
        self.first = register()
        self.clients, self.mfa_tokens, self.links = [self.first], [], []
        self.password, self.app, self.recovery_codes = PASSWORD, None, []

    def log_in(self):
        tokens = log_in(self.password, ATTACKER).json()
        if "mfa_token" in tokens:
            self.mfa_tokens.append(tokens["mfa_token"])
        elif "access" in tokens:
            self._keep(tokens)

    def enrol(self):
        answer = send(self.first, "post", "auth/mfa/enrol/", {"password": self.password})
        if answer.status_code == 201:
            self.app = pyotp.parse_uri(answer.json()["otpauth_url"])

    def confirm(self):
        answer = send(self.first, "post", "auth/mfa/confirm/", {"code": self._code()})
        self.recovery_codes += answer.json().get("recovery_codes", [])

    def finish(self):
        if self.mfa_tokens:
            body = {"mfa_token": self.mfa_tokens.pop(), "code": self._code()}
            tokens = send(APIClient(), "post", "auth/login/mfa/", body).json()
            if "access" in tokens:
                self._keep(tokens)

    def change_password(self):
        body = {"old_password": self.password, "new_password": self.password + "x"}
        if send(self.first, "post", "auth/change-password/", body).status_code == 200:
            self.password += "x"

    def refresh(self):
        refresh_by(APIClient(), self.first.tokens["refresh"])

    def fail_login(self):
        log_in("wrong", ATTACKER)

    def has_nothing(self):
        for client in self.clients:
            assert client.get("/api/auth/user/").status_code == 401
            assert refresh_by(APIClient(), client.tokens["refresh"]).status_code == 401
        for token in self.mfa_tokens:
            for code in (self._code(), *self.recovery_codes[:1]):
                body = {"mfa_token": token, "code": code}
                assert send(APIClient(), "post", "auth/login/mfa/", body).status_code == 401
        assert log_in(self.password, ATTACKER).status_code == 401

    def _code(self):
        return self.app.at(utc_now()) if self.app else "000000"

    def _keep(self, tokens):
        client = APIClient(REMOTE_ADDR=ATTACKER)
        client.tokens = tokens
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens['access']}")
        self.clients.append(client)


STEPS = ["log_in", "enrol", "confirm", "finish", "change_password", "refresh", "fail_login"]
steps = st.lists(st.sampled_from(STEPS), max_size=8)


class TestInAnyOrder(TestCase):
    """Property: whatever was done before a reset, and is tried after, only its owner gets in."""

    @hypothesis_settings(max_examples=25)
    @given(before=steps, after=steps)
    def test_reset_leaves_the_account_to_its_owner_alone(self, before, after):
        with time_machine.travel("2026-03-02T09:00:10+00:00", tick=False) as clock:
            attacker = Attacker()
            for step in before:
                getattr(attacker, step)()
                clock.shift(31)
            assert reset().status_code == 200
            for step in after:
                getattr(attacker, step)()
                clock.shift(31)
            attacker.has_nothing()
            assert set(log_in(NEW_PASSWORD).json()) == {"access", "refresh", "user"}
            assert not TotpDevice.objects.exists()
            assert not RecoveryCode.objects.exists()
            owner = get_user_model().objects.get()
            assert {session.address for session in owner.sessions.all()} == {HOME}
