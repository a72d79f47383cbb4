"""Claims and lifetimes of tokens. Specification: "Authentication Endpoints"."""

from __future__ import annotations

from datetime import timedelta

import jwt
import pytest
from conftest import later, refresh_by, send
from django.conf import settings
from specified import ERROR_KEYS

pytestmark = pytest.mark.django_db


class TestTokens:
    def test_claims_match_the_specification(self, doctor, sign_in):
        tokens = sign_in(doctor).tokens
        lifetimes = {"access": timedelta(minutes=15), "refresh": timedelta(days=7)}
        for kind, lifetime in lifetimes.items():
            claims = jwt.decode(
                tokens[kind], settings.SECRET_KEY, ["HS256"], issuer="myometrics-backend"
            )
            assert set(claims) == {"token_type", "exp", "iat", "jti", "user_id", "sid", "iss"}
            assert claims["token_type"] == kind
            assert claims["user_id"] == str(doctor.pk)
            assert claims["exp"] - claims["iat"] == lifetime.total_seconds()

    def test_refresh_token_is_no_access_token(self, api, doctor, sign_in):
        api.credentials(HTTP_AUTHORIZATION=f"Bearer {sign_in(doctor).tokens['refresh']}")
        assert api.get("/api/auth/user/").status_code == 401

    @pytest.mark.parametrize(
        "header",
        [
            "Bearer",
            "Bearer ",
            "Bearer x",
            "Bearer a.b.c",
            "bearer é",
            "Token x",
            "Basic eDp5",
            "🙂",
        ],
    )
    def test_foreign_token_is_a_401_in_the_error_shape(self, api, header):
        answer = api.get("/api/auth/user/", HTTP_AUTHORIZATION=header)
        assert answer.status_code == 401
        assert set(answer.json()) == ERROR_KEYS
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    @pytest.mark.parametrize(
        "change",
        [
            {"iss": "someone-else"},
            {"token_type": "refresh"},
            {"sid": "nonsense"},
            {"sid": 7},
            {"user_id": "999999"},
            {"exp": 1},
            {"exp": "soon"},
        ],
    )
    def test_signed_token_with_invalid_claims_is_refused(self, api, doctor, sign_in, change):
        token = sign_in(doctor).tokens["access"]
        claims = jwt.decode(token, options={"verify_signature": False})
        forged = jwt.encode({**claims, **change}, settings.SECRET_KEY, "HS256")
        answer = api.get("/api/auth/user/", HTTP_AUTHORIZATION=f"Bearer {forged}")
        assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")

    @pytest.mark.parametrize("algorithm", ["none", "HS512"])
    def test_token_of_another_algorithm_is_refused(self, api, doctor, sign_in, algorithm):
        claims = jwt.decode(sign_in(doctor).tokens["access"], options={"verify_signature": False})
        key = None if algorithm == "none" else settings.SECRET_KEY
        forged = jwt.encode(claims, key, algorithm)
        answer = api.get("/api/auth/user/", HTTP_AUTHORIZATION=f"Bearer {forged}")
        assert answer.status_code == 401

    def test_access_token_expires(self, doctor, sign_in):
        client = sign_in(doctor)
        assert client.get("/api/auth/user/").status_code == 200
        with later(minutes=16):
            assert client.get("/api/auth/user/").status_code == 401

    def test_token_stays_valid_after_clock_is_set_back(self, doctor, sign_in):
        client = sign_in(doctor)
        with later(hours=-1):
            assert client.get("/api/auth/user/").status_code == 200

    def test_authentication_costs_one_query(self, doctor, sign_in, django_assert_num_queries):
        client = sign_in(doctor)
        with django_assert_num_queries(1):
            client.get("/api/auth/user/")

    def test_token_of_inactive_or_deleted_user_is_refused(self, doctor, make_user, sign_in):
        for user, end in (
            (doctor, lambda user: type(user).objects.filter(pk=user.pk).update(is_active=False)),
            (make_user(), lambda user: user.delete()),
        ):
            client = sign_in(user)
            end(user)
            assert client.get("/api/auth/user/").status_code == 401
            answer = refresh_by(client, client.tokens["refresh"])
            assert answer.status_code == 401

    def test_changed_role_takes_effect_at_once(self, doctor, sign_in):
        client = sign_in(doctor)
        assert client.get("/api/users/").status_code == 403
        type(doctor).objects.filter(pk=doctor.pk).update(role="admin")
        assert client.get("/api/users/").status_code == 200


class TestRefresh:
    def test_refresh_returns_only_an_access_token(self, api, doctor, sign_in):
        tokens = sign_in(doctor).tokens
        answer = refresh_by(api, tokens["refresh"])
        assert answer.status_code == 200
        assert set(answer.json()) == {"access"}
        header = f"Bearer {answer.json()['access']}"
        assert api.get("/api/auth/user/", HTTP_AUTHORIZATION=header).status_code == 200

    def test_costs_two_queries(self, api, doctor, sign_in, django_assert_num_queries):
        token = sign_in(doctor).tokens["refresh"]
        with django_assert_num_queries(2):
            refresh_by(api, token)

    def test_works_for_seven_days_and_no_longer(self, api, doctor, sign_in):
        tokens = sign_in(doctor).tokens
        for after, status in (
            ({"days": 6, "hours": 23}, 200),
            ({"days": 7, "minutes": 1}, 401),
        ):
            with later(**after):
                answer = refresh_by(api, tokens["refresh"])
                assert answer.status_code == status

    @pytest.mark.parametrize("body", [{}, {"refresh": None}, {"refresh": ""}, {"refresh": 7}])
    @pytest.mark.parametrize("more", [{}, {"refresh": ["x"]}, {"refresh": {"x": 1}}])
    def test_missing_empty_or_non_text_token_is_a_400(self, api, body, more):
        answer = send(api, "post", "auth/token/refresh/", {**body, **more})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["refresh"]

    @pytest.mark.parametrize(
        "token", ["x", " ", "a.b.c", "é", "x\x00", "\ud800", "x" * 16_000, "🙂", "null"]
    )
    def test_refuses_any_other_text_with_a_401(self, api, token):
        answer = refresh_by(api, token)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    def test_refuses_an_access_token(self, api, doctor, sign_in):
        answer = refresh_by(api, sign_in(doctor).tokens["access"])
        assert answer.status_code == 401

    def test_ignores_a_stale_authorization_header(self, api, doctor, sign_in):
        api.credentials(HTTP_AUTHORIZATION="Bearer not.a.token")
        answer = refresh_by(api, sign_in(doctor).tokens["refresh"])
        assert answer.status_code == 200

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"NaN", b"null"])
    def test_bodies_that_are_no_object_are_400s(self, api, body):
        answer = api.post("/api/auth/token/refresh/", body, content_type="application/json")
        assert answer.status_code == 400
        assert set(answer.json()) == ERROR_KEYS


@pytest.mark.parametrize("path", ["auth/user/", "auth/sessions/", "users/"])
def test_bad_token_is_a_401_beside_session_authentication(db, api, settings, path):
    settings.REST_FRAMEWORK = {
        "DEFAULT_AUTHENTICATION_CLASSES": [
            "rest_framework.authentication.SessionAuthentication",
            "myometrics_auth.authentication.SessionTokenAuthentication",
        ]
    }
    answer = api.get(f"/api/{path}", HTTP_AUTHORIZATION="Bearer x")
    assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    # Without a token it is what Django REST framework answers in such a site.
    assert api.get(f"/api/{path}").status_code == 403
