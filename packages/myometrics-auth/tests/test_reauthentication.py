"""The login throttle covers passwords and codes that signed-in users enter again."""

from __future__ import annotations

from datetime import timedelta

import pyotp
import pytest
import time_machine
from conftest import NEW_PASSWORD, PASSWORD, enrol, send
from django.contrib.auth import get_user_model
from django.test import override_settings
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from rest_framework.exceptions import AuthenticationFailed, ValidationError
from rest_framework.test import APIClient

from myometrics_auth.models import RecoveryCode, Session, SignInFailures, TotpDevice
from myometrics_auth.selectors import second_factors_in_use
from myometrics_auth.services.passwords import password_change
from myometrics_auth.services.second_factor import (
    recovery_codes_replace,
    totp_confirm,
    totp_disable,
    totp_enrol,
)
from myometrics_core.api import CallerDeleted
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db

HOME = "198.51.100.7"
AWAY = "203.0.113.9"
WRONG_CODE = "000000"

PASSWORD_CHECKS = {
    "change-password": lambda password: {"old_password": password, "new_password": NEW_PASSWORD},
    "mfa/enrol": lambda password: {"password": password},
    "mfa/disable": lambda password: {"password": password, "code": WRONG_CODE},
    "mfa/recovery-codes": lambda password: {"password": password, "code": WRONG_CODE},
    "reauthenticate": lambda password: {"password": password},
}
"""Path of every endpoint that asks a signed-in user for the password → its body."""


def check(client, path, password):
    return send(client, "post", f"auth/{path}/", PASSWORD_CHECKS[path](password))


def log_in(user, password=PASSWORD, address=HOME):
    client = APIClient(REMOTE_ADDR=address)
    return send(client, "post", "auth/login/", {"email": user.email, "password": password})


@pytest.fixture
def at_home(clock, doctor, sign_in):
    return sign_in(doctor, REMOTE_ADDR=HOME)


class TestPasswordChecks:
    @pytest.mark.parametrize("path", PASSWORD_CHECKS)
    def test_wrong_passwords_are_counted_and_recorded(self, at_home, doctor, published, path):
        published.clear()
        for _ in range(3):
            answer = check(at_home, path, "wrong")
            assert answer.status_code == 400
        assert SignInFailures.objects.get().failures == 3
        assert [(event.action, event.actor_id) for event in published] == [
            ("login_failed", doctor.pk)
        ] * 3
        (event, *_more) = published
        assert (event.resource_type, event.resource_id) == ("user", str(doctor.pk))
        assert event.client_address == HOME

    @pytest.mark.parametrize("path", PASSWORD_CHECKS)
    def test_correct_password_above_limit_is_refused_like_wrong_one(
        self, at_home, doctor, published, path
    ):
        for _ in range(80):
            wrong = check(at_home, path, "wrong")
        right = check(at_home, path, PASSWORD)
        assert right.status_code == wrong.status_code == 400
        assert right.json() == wrong.json()
        assert set(right.json()["field_errors"]) <= {"password", "old_password"}
        assert SignInFailures.objects.get().failures == 20
        assert [event.action for event in published].count("login_failed") == 81
        doctor.refresh_from_db()
        assert doctor.check_password(PASSWORD)
        assert not TotpDevice.objects.exists()

    def test_correct_password_is_accepted_after_the_pause(self, at_home, clock):
        for _ in range(25):
            check(at_home, "change-password", "wrong")
        clock.shift(61)
        assert check(at_home, "change-password", PASSWORD).status_code == 200
        assert not SignInFailures.objects.exists()

    def test_endpoints_and_sign_in_share_one_count(self, at_home, doctor):
        for number in range(20):
            path = list(PASSWORD_CHECKS)[number % 5]
            assert check(at_home, path, "wrong").status_code == 400
        assert log_in(doctor).status_code == 401
        assert check(at_home, "mfa/enrol", PASSWORD).status_code == 400

    def test_failed_sign_ins_count_at_the_endpoints(self, at_home, doctor):
        for _ in range(20):
            assert log_in(doctor, "wrong").status_code == 401
        assert check(at_home, "change-password", PASSWORD).status_code == 400

    def test_stolen_token_used_elsewhere_does_not_lock_out_the_owner(self, at_home, doctor):
        thief = APIClient(REMOTE_ADDR=AWAY)
        thief.credentials(HTTP_AUTHORIZATION=f"Bearer {at_home.tokens['access']}")
        for _ in range(30):
            check(thief, "change-password", "wrong")
        assert check(thief, "change-password", PASSWORD).status_code == 400
        assert log_in(doctor, address="192.0.2.55").status_code == 401
        assert log_in(doctor).status_code == 200
        assert check(at_home, "change-password", PASSWORD).status_code == 200

    def test_record_sign_ins_off_still_counts(self, doctor, sign_in, published, settings):
        settings.MYOMETRICS_AUTH = {"RECORD_SIGN_INS": False}
        client = sign_in(doctor)
        check(client, "change-password", "wrong")
        assert published == []
        assert SignInFailures.objects.get().failures == 1


class TestCodeChecks:
    @pytest.mark.parametrize("path", ["disable", "recovery-codes"])
    def test_correct_code_above_limit_is_refused_and_not_used(
        self, enrolled, published, path, clock
    ):
        published.clear()
        for _ in range(12):
            wrong = self.ask(enrolled, path, WRONG_CODE)
        right = self.ask(enrolled, path, enrolled.recovery_codes[0])
        assert right.status_code == wrong.status_code == 400
        assert right.json() == wrong.json()
        assert list(right.json()["field_errors"]) == ["code"]
        assert RecoveryCode.objects.count() == 10
        assert [event.action for event in published] == ["login_failed"] * 13
        assert SignInFailures.objects.get().failures == 10
        clock.shift(5 * 60 + 1)
        assert self.ask(enrolled, path, enrolled.recovery_codes[0]).status_code in {200, 204}

    def test_sign_in_and_these_endpoints_share_one_count(self, enrolled, doctor):
        for _ in range(10):
            self.ask(enrolled, "disable", WRONG_CODE)
        token = log_in(doctor).json()["mfa_token"]
        body = {"mfa_token": token, "code": enrolled.recovery_codes[0]}
        assert send(APIClient(), "post", "auth/login/mfa/", body).status_code == 401

    def test_wrong_codes_of_an_enrolment_are_counted_and_recorded(
        self, at_home, doctor, published, clock
    ):
        answer = send(at_home, "post", "auth/mfa/enrol/", {"password": PASSWORD})
        app = pyotp.parse_uri(answer.json()["otpauth_url"])
        published.clear()
        for _ in range(12):
            wrong = send(at_home, "post", "auth/mfa/confirm/", {"code": WRONG_CODE})
        right = send(at_home, "post", "auth/mfa/confirm/", {"code": app.at(utc_now())})
        assert right.status_code == wrong.status_code == 400
        assert right.json() == wrong.json()
        assert [event.action for event in published] == ["login_failed"] * 13
        assert SignInFailures.objects.get().failures == 10
        clock.shift(timedelta(minutes=5, seconds=1))
        right = send(at_home, "post", "auth/mfa/confirm/", {"code": app.at(utc_now())})
        assert right.status_code == 200

    def ask(self, client, path, code):
        return send(client, "post", f"auth/mfa/{path}/", {"password": PASSWORD, "code": code})


class TestConcurrentChanges:
    """A request that was authenticated before the password was reset changes nothing after."""

    @pytest.fixture
    def reset(self, doctor):
        """A function that resets the password; ``doctor`` stays as read before."""

        def reset():
            current = get_user_model().objects.get(pk=doctor.pk)
            current.set_password(NEW_PASSWORD)
            current.save()

        return reset

    def test_enrolment_is_refused(self, doctor, reset):
        reset()
        with pytest.raises(AuthenticationFailed):
            totp_enrol(user=doctor, password=PASSWORD)
        assert not TotpDevice.objects.exists()

    def test_confirmation_is_refused(self, at_home, doctor, reset):
        answer = send(at_home, "post", "auth/mfa/enrol/", {"password": PASSWORD})
        code = pyotp.parse_uri(answer.json()["otpauth_url"]).at(utc_now())
        session = Session.objects.get()
        reset()
        for confirming in (session, None):
            with pytest.raises(AuthenticationFailed):
                totp_confirm(user=doctor, session=confirming, code=code, request=None)
        assert not second_factors_in_use().exists()

    def test_disabling_and_new_recovery_codes_are_refused(self, enrolled, doctor, reset):
        reset()
        for change in (totp_disable, recovery_codes_replace):
            code = enrolled.recovery_codes.pop()
            with pytest.raises(AuthenticationFailed):
                change(user=doctor, password=PASSWORD, code=code, request=None)
        assert second_factors_in_use().exists()

    def test_password_change_is_refused(self, at_home, doctor, reset):
        reset()
        change = {"old_password": PASSWORD, "new_password": "another-fine-word-99"}
        with pytest.raises(ValidationError):
            password_change(user=doctor, session=None, **change, request=None)
        doctor.refresh_from_db()
        assert doctor.check_password(NEW_PASSWORD)

    def test_wrong_password_of_a_deleted_user_is_a_401(self, doctor):
        get_user_model().objects.filter(pk=doctor.pk).delete()
        with pytest.raises(CallerDeleted):
            totp_enrol(user=doctor, password="wrong")
        assert not SignInFailures.objects.exists()


def test_enrolment_works_after_few_failures(at_home):
    check(at_home, "mfa/enrol", "wrong")
    enrol(at_home)


class TestInAnyOrder(TestCase):
    """Property: beyond the limit nothing is accepted, wherever the failures came from."""

    @hypothesis_settings(max_examples=25)
    @given(
        steps=st.lists(
            st.tuples(st.sampled_from(["login", "change-password", "mfa/enrol"]), st.booleans()),
            max_size=12,
        )
    )
    def test_correct_passwords_are_accepted_only_below_limit(self, steps):
        limited = override_settings(MYOMETRICS_AUTH={"FAILED_SIGN_IN_LIMIT": 3})
        with limited, time_machine.travel("2026-03-02T09:00:10+00:00", tick=False):
            user = get_user_model().objects.create_user("any@clinic.example", PASSWORD)
            client = APIClient(REMOTE_ADDR=HOME)
            tokens = log_in(user).json()
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens['access']}")
            failures = 0
            for step, is_right in steps:
                password = PASSWORD if is_right else "wrong"
                if step == "login":
                    accepted = log_in(user, password).status_code == 200
                elif step == "mfa/enrol":
                    accepted = check(client, step, password).status_code == 201
                else:
                    body = {"old_password": password, "new_password": PASSWORD}
                    answer = send(client, "post", "auth/change-password/", body)
                    accepted = answer.status_code == 200
                assert accepted == (is_right and failures < 3)
                failures = 0 if accepted else failures + (not is_right and failures < 3)
