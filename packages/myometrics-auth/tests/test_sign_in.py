"""Register, sign in, refresh, sign out. Specification: "Authentication Endpoints"."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import jwt
import pytest
import time_machine
from conftest import PASSWORD
from django.conf import settings
from django.contrib.auth import get_user_model

from myometrics_auth.models import Session

PROFILE_KEYS = {"id", "email", "firstName", "lastName", "role", "clinicName", "dateJoined"}
INVALID_CREDENTIALS = {
    "detail": "Invalid credentials",
    "code": "invalid_credentials",
    "field_errors": {},
}

pytestmark = pytest.mark.django_db


@pytest.fixture
def registration():
    return {
        "email": "New.User@Clinic.example",
        "password": PASSWORD,
        "firstName": "Jane",
        "lastName": "Smith",
        "clinicName": "Heart Clinic",
    }


def post(api, path, body):
    return api.post(f"/api/auth/{path}/", json.dumps(body), content_type="application/json")


class TestRegister:
    def test_makes_a_doctor_and_signs_them_in(self, api, registration):
        answer = post(api, "register", registration)
        assert answer.status_code == 201
        assert set(answer.json()) == {"access", "refresh", "user"}
        user = answer.json()["user"]
        assert set(user) == PROFILE_KEYS
        assert user == {
            **user,
            "email": "new.user@clinic.example",
            "firstName": "Jane",
            "lastName": "Smith",
            "role": "doctor",
            "clinicName": "Heart Clinic",
        }
        assert user["dateJoined"].endswith("Z")
        assert isinstance(user["id"], int)

    def test_gives_the_default_role_whatever_the_body_says(self, api, registration):
        body = {**registration, "role": "admin", "isActive": False, "is_staff": True, "id": 1}
        answer = post(api, "register", body)
        assert answer.json()["user"]["role"] == "doctor"
        assert not get_user_model().objects.get().is_staff

    def test_does_without_a_clinic(self, api, registration):
        del registration["clinicName"]
        assert post(api, "register", registration).json()["user"]["clinicName"] == ""

    @pytest.mark.parametrize("field", ["email", "password", "firstName", "lastName"])
    def test_names_what_is_missing(self, api, registration, field):
        del registration[field]
        answer = post(api, "register", registration)
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == [field]
        assert answer.json()["detail"].startswith(f"{field}: ")
        assert not get_user_model().objects.exists()

    @pytest.mark.parametrize(
        "email", ["NEW.user@clinic.example", " new.user@clinic.example", "ｎew.user@clinic.example"]
    )
    def test_refuses_an_address_that_is_taken_however_it_is_written(self, api, registration, email):
        assert post(api, "register", registration).status_code == 201
        answer = post(api, "register", {**registration, "email": email})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["email"]
        assert get_user_model().objects.count() == 1

    @pytest.mark.parametrize(
        "email",
        [
            "new.user@clınic.example",  # dotless i
            "nеw.user@clinic.example",  # Cyrillic е
            "new.user@clinic.exаmple",  # Cyrillic а
            "nobody",
            "a@b@clinic.example",
            "",
            None,
            7,
            [],
        ],
    )
    def test_refuses_look_alikes_and_what_is_no_address(self, api, registration, email):
        answer = post(api, "register", {**registration, "email": email})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["email"]

    def test_reports_the_host_s_password_rules_on_password(self, api, registration):
        answer = post(api, "register", {**registration, "password": "12345"})
        assert answer.status_code == 400
        assert len(answer.json()["field_errors"]["password"]) == 2

    def test_keeps_spaces_of_a_password(self, api, registration):
        password = f"  {PASSWORD}  "
        assert post(api, "register", {**registration, "password": password}).status_code == 201
        sign_in = {"email": registration["email"], "password": PASSWORD}
        assert post(api, "login", sign_in).status_code == 401
        assert post(api, "login", {**sign_in, "password": password}).status_code == 200

    def test_ignores_a_stale_authorization_header(self, api, registration):
        api.credentials(HTTP_AUTHORIZATION="Bearer not.a.token")
        assert post(api, "register", registration).status_code == 201


class TestLogin:
    def test_gives_tokens_and_the_profile(self, api, doctor):
        answer = post(api, "login", {"email": doctor.email, "password": PASSWORD})
        assert answer.status_code == 200
        assert set(answer.json()) == {"access", "refresh", "user"}
        assert set(answer.json()["user"]) == PROFILE_KEYS
        assert answer.json()["user"]["id"] == doctor.pk

    def test_costs_eight_queries_beside_the_hash(self, api, doctor, django_assert_num_queries):
        with django_assert_num_queries(8):
            post(api, "login", {"email": doctor.email, "password": PASSWORD})

    def test_matches_the_address_without_regard_to_case(self, api, doctor):
        answer = post(api, "login", {"email": "DOCTOR@Clinic.Example", "password": PASSWORD})
        assert answer.status_code == 200

    def test_notes_the_time_of_the_sign_in(self, api, doctor):
        post(api, "login", {"email": doctor.email, "password": PASSWORD})
        doctor.refresh_from_db()
        assert datetime.now(timezone.utc) - doctor.last_login < timedelta(minutes=1)

    def test_answers_the_same_to_an_unknown_address_a_wrong_password_and_an_inactive_user(
        self, api, doctor, make_user
    ):
        make_user("gone@clinic.example", is_active=False)
        answers = [
            post(api, "login", {"email": doctor.email, "password": "wrong"}),
            post(api, "login", {"email": "nobody@clinic.example", "password": PASSWORD}),
            post(api, "login", {"email": "gone@clinic.example", "password": PASSWORD}),
        ]
        for answer in answers:
            assert (answer.status_code, answer.json()) == (401, INVALID_CREDENTIALS)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert not Session.objects.exists()

    @pytest.mark.parametrize("field", ["email", "password"])
    @pytest.mark.parametrize("value", [None, "", 7, True, [], {}, "x\x00", "\ud800", "x" * 300])
    def test_refuses_what_is_no_text_of_bearable_length(self, api, doctor, field, value):
        body = {"email": doctor.email, "password": PASSWORD, field: value}
        answer = post(api, "login", body)
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == [field]

    def test_names_missing_fields(self, api):
        answer = post(api, "login", {})
        assert answer.status_code == 400
        assert set(answer.json()["field_errors"]) == {"email", "password"}
        assert answer.json()["detail"] == "email: This field is required."

    def test_ignores_a_stale_authorization_header(self, api, doctor):
        api.credentials(HTTP_AUTHORIZATION="Bearer not.a.token")
        body = {"email": doctor.email, "password": PASSWORD}
        assert post(api, "login", body).status_code == 200

    def test_offers_nothing_but_post(self, api):
        assert api.get("/api/auth/login/").status_code == 405


class TestTokens:
    def test_say_what_the_specification_says(self, doctor, sign_in):
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

    def test_of_refresh_are_no_access_tokens(self, api, doctor, sign_in):
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
    def test_that_are_not_ours_are_a_401_in_the_error_shape(self, api, header):
        answer = api.get("/api/auth/user/", HTTP_AUTHORIZATION=header)
        assert answer.status_code == 401
        assert set(answer.json()) == {"detail", "code", "field_errors"}
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
    def test_with_other_claims_are_refused_though_signed(self, api, doctor, sign_in, change):
        token = sign_in(doctor).tokens["access"]
        claims = jwt.decode(token, options={"verify_signature": False})
        forged = jwt.encode({**claims, **change}, settings.SECRET_KEY, "HS256")
        answer = api.get("/api/auth/user/", HTTP_AUTHORIZATION=f"Bearer {forged}")
        assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")

    @pytest.mark.parametrize("algorithm", ["none", "HS512"])
    def test_of_another_algorithm_are_refused(self, api, doctor, sign_in, algorithm):
        claims = jwt.decode(sign_in(doctor).tokens["access"], options={"verify_signature": False})
        key = None if algorithm == "none" else settings.SECRET_KEY
        forged = jwt.encode(claims, key, algorithm)
        answer = api.get("/api/auth/user/", HTTP_AUTHORIZATION=f"Bearer {forged}")
        assert answer.status_code == 401

    def test_expire(self, doctor, sign_in):
        client = sign_in(doctor)
        assert client.get("/api/auth/user/").status_code == 200
        with time_machine.travel(datetime.now(timezone.utc) + timedelta(minutes=16)):
            assert client.get("/api/auth/user/").status_code == 401

    def test_outlive_a_clock_that_is_put_back(self, doctor, sign_in):
        client = sign_in(doctor)
        with time_machine.travel(datetime.now(timezone.utc) - timedelta(hours=1)):
            assert client.get("/api/auth/user/").status_code == 200

    def test_cost_one_query(self, doctor, sign_in, django_assert_num_queries):
        client = sign_in(doctor)
        with django_assert_num_queries(1):
            client.get("/api/auth/user/")

    def test_stop_working_when_the_user_is_deactivated_or_deleted(self, doctor, make_user, sign_in):
        for user, end in (
            (doctor, lambda user: type(user).objects.filter(pk=user.pk).update(is_active=False)),
            (make_user(), lambda user: user.delete()),
        ):
            client = sign_in(user)
            end(user)
            assert client.get("/api/auth/user/").status_code == 401
            answer = post(client, "token/refresh", {"refresh": client.tokens["refresh"]})
            assert answer.status_code == 401

    def test_bear_a_changed_role_at_once(self, doctor, sign_in):
        client = sign_in(doctor)
        assert client.get("/api/users/").status_code == 403
        type(doctor).objects.filter(pk=doctor.pk).update(role="admin")
        assert client.get("/api/users/").status_code == 200


class TestRefresh:
    def test_gives_an_access_token_alone(self, api, doctor, sign_in):
        tokens = sign_in(doctor).tokens
        answer = post(api, "token/refresh", {"refresh": tokens["refresh"]})
        assert answer.status_code == 200
        assert set(answer.json()) == {"access"}
        header = f"Bearer {answer.json()['access']}"
        assert api.get("/api/auth/user/", HTTP_AUTHORIZATION=header).status_code == 200

    def test_costs_two_queries(self, api, doctor, sign_in, django_assert_num_queries):
        token = sign_in(doctor).tokens["refresh"]
        with django_assert_num_queries(2):
            post(api, "token/refresh", {"refresh": token})

    def test_works_for_seven_days_and_no_longer(self, api, doctor, sign_in):
        tokens = sign_in(doctor).tokens
        now = datetime.now(timezone.utc)
        for after, status in (
            (timedelta(days=6, hours=23), 200),
            (timedelta(days=7, minutes=1), 401),
        ):
            with time_machine.travel(now + after):
                answer = post(api, "token/refresh", {"refresh": tokens["refresh"]})
                assert answer.status_code == status

    @pytest.mark.parametrize("body", [{}, {"refresh": None}, {"refresh": ""}, {"refresh": 7}])
    @pytest.mark.parametrize("more", [{}, {"refresh": ["x"]}, {"refresh": {"x": 1}}])
    def test_names_a_token_that_is_missing_empty_or_no_text(self, api, body, more):
        answer = post(api, "token/refresh", {**body, **more})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["refresh"]

    @pytest.mark.parametrize(
        "token", ["x", " ", "a.b.c", "é", "x\x00", "\ud800", "x" * 100_000, "🙂", "null"]
    )
    def test_refuses_any_other_text_with_a_401(self, api, token):
        answer = post(api, "token/refresh", {"refresh": token})
        assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    def test_refuses_an_access_token(self, api, doctor, sign_in):
        answer = post(api, "token/refresh", {"refresh": sign_in(doctor).tokens["access"]})
        assert answer.status_code == 401

    def test_ignores_a_stale_authorization_header(self, api, doctor, sign_in):
        api.credentials(HTTP_AUTHORIZATION="Bearer not.a.token")
        answer = post(api, "token/refresh", {"refresh": sign_in(doctor).tokens["refresh"]})
        assert answer.status_code == 200

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"NaN", b"null"])
    def test_bears_bodies_that_are_no_object(self, api, body):
        answer = api.post("/api/auth/token/refresh/", body, content_type="application/json")
        assert answer.status_code == 400
        assert set(answer.json()) == {"detail", "code", "field_errors"}


class TestLogout:
    def test_ends_the_session_with_both_its_tokens(self, doctor, sign_in):
        client = sign_in(doctor)
        answer = post(client, "logout", {"refresh": client.tokens["refresh"]})
        assert (answer.status_code, answer.json()) == (200, {"detail": "Successfully logged out"})
        assert client.get("/api/auth/user/").status_code == 401
        answer = post(client, "token/refresh", {"refresh": client.tokens["refresh"]})
        assert answer.status_code == 401

    def test_leaves_other_sessions_alone(self, doctor, sign_in):
        here, there = sign_in(doctor), sign_in(doctor)
        post(here, "logout", {"refresh": here.tokens["refresh"]})
        assert there.get("/api/auth/user/").status_code == 200

    def test_ends_the_session_of_the_body_s_token(self, doctor, sign_in):
        here, there = sign_in(doctor), sign_in(doctor)
        assert post(here, "logout", {"refresh": there.tokens["refresh"]}).status_code == 200
        assert here.get("/api/auth/user/").status_code == 200
        assert there.get("/api/auth/user/").status_code == 401

    def test_accepts_an_access_token_past_its_time(self, doctor, sign_in):
        client = sign_in(doctor)
        with time_machine.travel(datetime.now(timezone.utc) + timedelta(hours=2)):
            answer = post(client, "logout", {"refresh": client.tokens["refresh"]})
            assert answer.status_code == 200
            answer = post(client, "token/refresh", {"refresh": client.tokens["refresh"]})
            assert answer.status_code == 401

    def test_needs_the_authorization_header(self, api, doctor, sign_in):
        client = sign_in(doctor)
        answer = post(api, "logout", {"refresh": client.tokens["refresh"]})
        assert answer.status_code == 401
        assert client.get("/api/auth/user/").status_code == 200

    def test_refuses_a_forged_access_token_past_its_time(self, api, doctor, sign_in):
        tokens = sign_in(doctor).tokens
        claims = jwt.decode(tokens["access"], options={"verify_signature": False})
        forged = jwt.encode(
            {**claims, "exp": 1}, "another key of thirty-two bytes or more", "HS256"
        )
        api.credentials(HTTP_AUTHORIZATION=f"Bearer {forged}")
        assert post(api, "logout", {"refresh": tokens["refresh"]}).status_code == 401

    def test_twice_is_refused_the_second_time(self, doctor, sign_in):
        here, there = sign_in(doctor), sign_in(doctor)
        body = {"refresh": there.tokens["refresh"]}
        assert post(here, "logout", body).status_code == 200
        answer = post(here, "logout", body)
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["refresh"]

    def test_leaves_another_user_s_session_alone(self, doctor, make_user, sign_in):
        client, other = sign_in(doctor), sign_in(make_user())
        assert post(client, "logout", {"refresh": other.tokens["refresh"]}).status_code == 400
        assert other.get("/api/auth/user/").status_code == 200

    @pytest.mark.parametrize("token", [None, "", 7, [], {}, "x", "a.b.c", "x\x00", "\ud800"])
    def test_refuses_what_is_no_refresh_token(self, doctor, sign_in, token):
        answer = post(sign_in(doctor), "logout", {"refresh": token})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["refresh"]
