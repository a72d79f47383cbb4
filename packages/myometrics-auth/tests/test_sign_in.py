"""Sign in, sign out. Specification: "Authentication Endpoints"."""

from __future__ import annotations

import jwt
import pytest
from conftest import PASSWORD, later, refresh_by, send, sign_out
from specified import PROFILE_KEYS

from myometrics_auth.models import Session
from myometrics_core.times import utc_now

INVALID_CREDENTIALS = {
    "detail": "Invalid credentials",
    "code": "invalid_credentials",
    "field_errors": {},
}

pytestmark = pytest.mark.django_db


class TestLogin:
    def test_login_returns_tokens_and_profile(self, api, doctor):
        answer = send(api, "post", "auth/login/", {"email": doctor.email, "password": PASSWORD})
        assert answer.status_code == 200
        assert set(answer.json()) == {"access", "refresh", "user"}
        assert set(answer.json()["user"]) == PROFILE_KEYS
        assert answer.json()["user"]["id"] == doctor.pk

    def test_first_login_costs_ten_queries_beside_the_hash(
        self, api, doctor, django_assert_num_queries
    ):
        # The savepoint of the subscriber in conftest.py is two more.
        with django_assert_num_queries(10 + 2):
            send(api, "post", "auth/login/", {"email": doctor.email, "password": PASSWORD})

    def test_matches_the_address_without_regard_to_case(self, api, doctor):
        answer = send(
            api, "post", "auth/login/", {"email": "DOCTOR@Clinic.Example", "password": PASSWORD}
        )
        assert answer.status_code == 200

    def test_login_updates_last_login(self, api, doctor):
        before = utc_now()
        send(api, "post", "auth/login/", {"email": doctor.email, "password": PASSWORD})
        doctor.refresh_from_db()
        assert before <= doctor.last_login <= utc_now()

    def test_failed_logins_have_the_same_response(self, api, doctor, make_user):
        make_user("gone@clinic.example", is_active=False)
        answers = [
            send(api, "post", "auth/login/", {"email": doctor.email, "password": "wrong"}),
            send(
                api,
                "post",
                "auth/login/",
                {"email": "unknown@clinic.example", "password": PASSWORD},
            ),
            send(
                api, "post", "auth/login/", {"email": "gone@clinic.example", "password": PASSWORD}
            ),
        ]
        for answer in answers:
            assert (answer.status_code, answer.json()) == (401, INVALID_CREDENTIALS)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert not Session.objects.exists()

    @pytest.mark.parametrize("field", ["email", "password"])
    @pytest.mark.parametrize("value", [None, "", 7, True, [], {}, "x\x00", "\ud800", "x" * 300])
    def test_malformed_or_too_long_values_are_400s(self, api, doctor, field, value):
        body = {"email": doctor.email, "password": PASSWORD, field: value}
        answer = send(api, "post", "auth/login/", body)
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == [field]

    def test_missing_fields_are_400s(self, api):
        answer = send(api, "post", "auth/login/", {})
        assert answer.status_code == 400
        assert set(answer.json()["field_errors"]) == {"email", "password"}
        assert answer.json()["detail"] == "email: This field is required."

    def test_ignores_a_stale_authorization_header(self, api, doctor):
        api.credentials(HTTP_AUTHORIZATION="Bearer not.a.token")
        body = {"email": doctor.email, "password": PASSWORD}
        assert send(api, "post", "auth/login/", body).status_code == 200

    def test_offers_nothing_but_post(self, api):
        assert api.get("/api/auth/login/").status_code == 405


class TestLogout:
    def test_ends_the_session_with_both_its_tokens(self, doctor, sign_in):
        client = sign_in(doctor)
        answer = sign_out(client, client.tokens["refresh"])
        assert (answer.status_code, answer.json()) == (200, {"detail": "Successfully logged out"})
        assert client.get("/api/auth/user/").status_code == 401
        answer = refresh_by(client, client.tokens["refresh"])
        assert answer.status_code == 401

    def test_leaves_other_sessions_alone(self, doctor, sign_in):
        here, there = sign_in(doctor), sign_in(doctor)
        sign_out(here, here.tokens["refresh"])
        assert there.get("/api/auth/user/").status_code == 200

    def test_ends_the_session_of_the_body_s_token(self, doctor, sign_in):
        here, there = sign_in(doctor), sign_in(doctor)
        assert sign_out(here, there.tokens["refresh"]).status_code == 200
        assert here.get("/api/auth/user/").status_code == 200
        assert there.get("/api/auth/user/").status_code == 401

    def test_logout_accepts_an_expired_access_token(self, doctor, sign_in):
        client = sign_in(doctor)
        with later(hours=2):
            answer = sign_out(client, client.tokens["refresh"])
            assert answer.status_code == 200
            answer = refresh_by(client, client.tokens["refresh"])
            assert answer.status_code == 401

    def test_needs_the_authorization_header(self, api, doctor, sign_in):
        client = sign_in(doctor)
        answer = sign_out(api, client.tokens["refresh"])
        assert answer.status_code == 401
        assert client.get("/api/auth/user/").status_code == 200

    def test_logout_refuses_a_forged_expired_access_token(self, api, doctor, sign_in):
        tokens = sign_in(doctor).tokens
        claims = jwt.decode(tokens["access"], options={"verify_signature": False})
        forged = jwt.encode(
            {**claims, "exp": 1}, "another key of thirty-two bytes or more", "HS256"
        )
        api.credentials(HTTP_AUTHORIZATION=f"Bearer {forged}")
        assert sign_out(api, tokens["refresh"]).status_code == 401

    def test_twice_is_refused_the_second_time(self, doctor, sign_in):
        here, there = sign_in(doctor), sign_in(doctor)
        assert sign_out(here, there.tokens["refresh"]).status_code == 200
        answer = sign_out(here, there.tokens["refresh"])
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["refresh"]

    def test_leaves_another_user_s_session_alone(self, doctor, make_user, sign_in):
        client, other = sign_in(doctor), sign_in(make_user())
        assert sign_out(client, other.tokens["refresh"]).status_code == 400
        assert other.get("/api/auth/user/").status_code == 200

    @pytest.mark.parametrize("token", [None, "", 7, [], {}, "x", "a.b.c", "x\x00", "\ud800"])
    def test_logout_refuses_other_tokens(self, doctor, sign_in, token):
        answer = sign_out(sign_in(doctor), token)
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["refresh"]
