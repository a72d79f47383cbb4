"""Key rotation: tokens and hashes of an old key work while the key is listed."""

from __future__ import annotations

import base64
import json

import jwt
import pyotp
import pytest
from conftest import NEW_PASSWORD, PASSWORD, enrol, query_of, refresh_by, send, sign_out
from django.conf import settings as django_settings
from django.core.management import call_command
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient
from rest_framework_simplejwt.exceptions import TokenBackendError

from myometrics_auth.errors import InvalidToken
from myometrics_auth.models import SignInFailures
from myometrics_auth.reset_links import reset_link
from myometrics_auth.services.login_throttle import LoginThrottle, login_throttle_erase
from myometrics_auth.tokens import ACCESS, KeyListTokenBackend, read_token
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db

KEYS = [f"{number} " * 20 for number in range(4)]
HOME = "198.51.100.7"


def rotate_secret_key(settings, new):
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    settings.SECRET_KEY = new


def rotate_lists(settings, new):
    old = settings.MYOMETRICS_AUTH.get("SIGNING_KEYS", [settings.SECRET_KEY])
    settings.MYOMETRICS_AUTH = {**settings.MYOMETRICS_AUTH, "SIGNING_KEYS": [new, *old]}
    settings.MYOMETRICS = {**settings.MYOMETRICS, "PSEUDONYM_KEYS": [new, *old]}


@pytest.fixture(params=[rotate_secret_key, rotate_lists], ids=["secret_key", "lists"])
def rotate(request, settings):
    """A function that puts a new key first, in each of the two ways."""
    settings.MYOMETRICS_AUTH = {}
    return lambda new: request.param(settings, new)


def profile_status(token):
    answer = APIClient().get("/api/auth/user/", HTTP_AUTHORIZATION=f"Bearer {token}")
    return answer.status_code


def kid_of(token):
    return jwt.get_unverified_header(token)["kid"]


class TestTokens:
    def test_old_tokens_work_and_new_ones_use_the_new_key(self, api, doctor, sign_in, rotate):
        client = sign_in(doctor)
        for key in KEYS:
            rotate(key)
            assert client.get("/api/auth/user/").status_code == 200
            fresh = refresh_by(api, client.tokens["refresh"]).json()["access"]
            assert profile_status(fresh) == 200
            assert kid_of(fresh) != kid_of(client.tokens["access"])
            jwt.decode(fresh, key, ["HS256"], issuer="myometrics-backend")
        assert sign_out(client, client.tokens["refresh"]).status_code == 200

    def test_tokens_of_a_removed_key_are_refused(self, api, doctor, sign_in, settings):
        client = sign_in(doctor)
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = KEYS[0]
        assert client.get("/api/auth/user/").status_code == 200
        settings.SECRET_KEY_FALLBACKS = []
        assert client.get("/api/auth/user/").status_code == 401
        answer = refresh_by(api, client.tokens["refresh"])
        assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")

    def test_tokens_are_accepted_before_their_key_signs(self, doctor, sign_in, settings):
        here = settings.SECRET_KEY
        settings.SECRET_KEY_FALLBACKS = [KEYS[0]]
        first = sign_in(doctor)
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = KEYS[0], [here]
        second = sign_in(doctor)
        assert first.get("/api/auth/user/").status_code == 200
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = here, [KEYS[0]]
        assert second.get("/api/auth/user/").status_code == 200

    def test_tokens_of_an_old_key_expire_and_cost_one_query(
        self, clock, doctor, sign_in, rotate, django_assert_num_queries
    ):
        client = sign_in(doctor)
        rotate(KEYS[0])
        with django_assert_num_queries(1):
            assert client.get("/api/auth/user/").status_code == 200
        clock.shift(15 * 60 + 1)
        assert client.get("/api/auth/user/").status_code == 401

    def test_tokens_without_kid_are_accepted_by_every_key(self, doctor, sign_in, rotate):
        claims = jwt.decode(sign_in(doctor).tokens["access"], options={"verify_signature": False})
        rotate(KEYS[0])
        rotate(KEYS[1])
        for key in KEYS[:2]:
            assert profile_status(jwt.encode(claims, key, "HS256")) == 200
        assert profile_status(jwt.encode(claims, KEYS[2], "HS256")) == 401

    @pytest.mark.parametrize("header", [{"kid": "unknown"}, {"kid": ""}, {"kid": "0" * 16}])
    def test_tokens_of_an_unknown_kid_are_refused(self, doctor, sign_in, header):
        claims = jwt.decode(sign_in(doctor).tokens["access"], options={"verify_signature": False})
        token = jwt.encode(claims, django_settings.SECRET_KEY, "HS256", headers=header)
        assert profile_status(token) == 401

    def test_tokens_with_kid_of_another_key_are_refused(self, doctor, sign_in, rotate):
        token = sign_in(doctor).tokens["access"]
        claims = jwt.decode(token, options={"verify_signature": False})
        rotate(KEYS[0])
        forged = jwt.encode(claims, KEYS[0], "HS256", headers={"kid": kid_of(token)})
        assert profile_status(forged) == 401

    def test_kid_does_not_reveal_the_key(self, doctor, sign_in, settings):
        settings.MYOMETRICS_AUTH = {"SIGNING_KEYS": KEYS}
        kid = kid_of(sign_in(doctor).tokens["access"])
        assert len(kid) == 16
        assert not any(kid in key or key in kid for key in KEYS)

    def test_first_of_signing_keys_signs(self, doctor, sign_in, settings):
        settings.MYOMETRICS_AUTH = {"SIGNING_KEYS": KEYS}
        token = sign_in(doctor).tokens["access"]
        settings.SECRET_KEY = "another" * 10
        assert profile_status(token) == 200
        jwt.decode(token, KEYS[0], ["HS256"], issuer="myometrics-backend")

    def test_deprecated_signing_key_still_works(self, doctor, sign_in, settings):
        settings.MYOMETRICS_AUTH = {"SIGNING_KEY": KEYS[0]}
        token = sign_in(doctor).tokens["access"]
        jwt.decode(token, KEYS[0], ["HS256"], issuer="myometrics-backend")
        settings.MYOMETRICS_AUTH = {"SIGNING_KEYS": [KEYS[1], KEYS[0]]}
        assert profile_status(token) == 200


@given(
    signed_by=st.sampled_from(KEYS),
    accepted=st.lists(st.sampled_from(KEYS), min_size=1, unique=True),
    names_key=st.booleans(),
)
def test_backend_accepts_tokens_of_listed_keys_only(signed_by, accepted, names_key):
    token = KeyListTokenBackend((signed_by,)).encode({"exp": 1, "jti": "x"})
    if not names_key:
        claims = jwt.decode(token, options={"verify_signature": False})
        token = jwt.encode(claims, signed_by, "HS256")
    backend = KeyListTokenBackend(tuple(accepted))
    if signed_by in accepted:
        assert backend.decode(token)["jti"] == "x"
    else:
        with pytest.raises(TokenBackendError):
            backend.decode(token)


@pytest.mark.parametrize("header", [{"kid": 7}, {"kid": None}, {"kid": []}, {"kid": "\ud800"}])
def test_token_with_malformed_kid_is_invalid(header):
    parts = ({"alg": "HS256", **header}, {"token_type": "access"})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    with pytest.raises(InvalidToken):
        read_token(".".join((*encoded, "x")).replace("=", ""), ACCESS)


class TestOtherKeyedData:
    def test_pending_sign_in_is_finished_after_rotation(self, enrolled, doctor, api, rotate):
        body = {"email": doctor.email, "password": PASSWORD}
        token = send(api, "post", "auth/login/", body).json()["mfa_token"]
        rotate(KEYS[0])
        body = {"mfa_token": token, "code": enrolled.app.at(utc_now())}
        assert send(api, "post", "auth/login/mfa/", body).status_code == 200

    def test_recovery_codes_and_reset_links_work_after_rotation(
        self, enrolled, doctor, api, rotate
    ):
        link = query_of(reset_link(doctor))
        rotate(KEYS[0])
        body = {"email": doctor.email, "password": PASSWORD}
        token = send(api, "post", "auth/login/", body).json()["mfa_token"]
        body = {"mfa_token": token, "code": enrolled.recovery_codes[0]}
        assert send(api, "post", "auth/login/mfa/", body).status_code == 200
        body = {**link, "new_password": NEW_PASSWORD}
        assert send(api, "post", "auth/password-reset/confirm/", body).status_code == 200

    def test_pending_enrolment_is_confirmed_after_rotation(self, clock, doctor, sign_in, rotate):
        client = sign_in(doctor)
        answer = send(client, "post", "auth/mfa/enrol/", {"password": PASSWORD})
        rotate(KEYS[0])
        code = pyotp.parse_uri(answer.json()["otpauth_url"]).at(utc_now())
        assert send(client, "post", "auth/mfa/confirm/", {"code": code}).status_code == 200
        enrol_fails = send(client, "post", "auth/mfa/enrol/", {"password": PASSWORD})
        assert enrol_fails.status_code == 409


class TestLoginThrottle:
    throttle = LoginThrottle("doctor@clinic.example", "192.0.2.1")

    def fail(self, times):
        for _ in range(times):
            self.throttle.record_failure()

    def test_throttle_keeps_counting_after_rotation(self, rotate, clock):
        self.fail(10)
        rotate(KEYS[0])
        self.fail(9)
        rotate(KEYS[1])
        self.fail(1)
        assert SignInFailures.objects.get().failures == 20
        assert not self.throttle.allow_login()
        self.fail(5)
        assert SignInFailures.objects.get().failures == 20
        clock.shift(61)
        assert self.throttle.allow_login()
        assert not SignInFailures.objects.exists()

    def test_throttle_keeps_trusted_addresses_after_rotation(self, doctor, rotate, clock):
        LoginThrottle(doctor.email, HOME).trust_address()
        rotate(KEYS[0])
        self.fail(20)
        assert LoginThrottle(doctor.email, HOME).allow_login()
        assert not self.throttle.allow_login()

    def test_throttle_resets_and_erases_after_rotation(self, doctor, rotate, clock):
        for key in KEYS[:2]:
            self.fail(20)
            rotate(key)
            LoginThrottle(doctor.email).reset()
            assert not SignInFailures.objects.exists()
        LoginThrottle(doctor.email, HOME).trust_address()
        self.fail(3)
        rotate(KEYS[2])
        LoginThrottle(doctor.email, HOME).trust_address()
        assert SignInFailures.objects.count() == 2
        doctor.sessions.create(address=HOME, expires_at=utc_now())
        login_throttle_erase(doctor)
        assert not SignInFailures.objects.exists()

    def test_erasure_deletes_failures_after_rotation(self, doctor, sign_in, rotate):
        client = sign_in(doctor)
        self.fail(3)
        rotate(KEYS[0])
        assert client.delete("/api/users/me/").status_code == 204
        assert not SignInFailures.objects.exists()


def test_enrolled_user_signs_in_after_secrets_are_rotated(clock, doctor, sign_in, settings):
    client = sign_in(doctor)
    enrol(client)
    rotate_secret_key(settings, KEYS[0])
    call_command("auth_rotate_secrets", verbosity=0)
    settings.SECRET_KEY_FALLBACKS = []
    clock.shift(60)
    body = {"email": doctor.email, "password": PASSWORD}
    token = send(APIClient(), "post", "auth/login/", body).json()["mfa_token"]
    body = {"mfa_token": token, "code": client.app.at(utc_now())}
    assert send(APIClient(), "post", "auth/login/mfa/", body).status_code == 200
