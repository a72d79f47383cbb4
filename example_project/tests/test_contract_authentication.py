"""Specification, "Authentication Endpoints", and decisions, "Authentication"."""

import base64
import json
import re
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from conftest import PASSWORD, assert_error, client_of, make_user, send_json
from django.contrib.auth import get_user_model
from django.core import mail
from rest_framework.test import APIClient

from myometrics_auth.models import Session
from myometrics_auth.tokens import access_token, refresh_token
from myometrics_core.jobs import run_jobs
from myometrics_core.times import utc_now

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unlimited", "cheap_hashes")]

NEW_PASSWORD = "another-horse-battery"
PROFILE = {
    "id": int,
    "email": str,
    "firstName": str,
    "lastName": str,
    "role": str,
    "clinicName": str,
    "dateJoined": str,
}
REGISTRATION = {
    "email": "new@clinic.example",
    "password": PASSWORD,
    "firstName": "Jane",
    "lastName": "Smith",
    "clinicName": "Heart Clinic",
}


def post(path, body, client=None, **headers):
    return (client or APIClient()).post(f"/api/auth/{path}/", body, format="json", **headers)


def login(email, password=PASSWORD, **headers):
    return post("login", {"email": email, "password": password}, **headers)


def with_token(token):
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {token}")


def types_of(body):
    return {name: type(value) for name, value in body.items()}


def is_live(tokens):
    """Whether both tokens are valid; they must agree."""
    access = with_token(tokens["access"]).get("/api/auth/user/").status_code
    refresh = post("token/refresh", {"refresh": tokens["refresh"]}).status_code
    assert access == refresh
    return access == 200


@pytest.fixture
def tokens(doctor):
    return login(doctor.email).json()


class TestLogin:
    def test_login_response_has_specified_shape(self, doctor):
        answer = login(doctor.email)
        assert answer.status_code == 200
        assert types_of(answer.json()) == {"access": str, "refresh": str, "user": dict}
        user = answer.json()["user"]
        assert types_of(user) == PROFILE
        assert user["id"] == doctor.pk
        assert (user["firstName"], user["lastName"], user["role"]) == ("John", "Doe", "doctor")

    def test_tokens_are_hs256_for_15_minutes_and_7_days(self, tokens, settings):
        for name, lifetime in (("access", 15 * 60), ("refresh", 7 * 24 * 3600)):
            assert jwt.get_unverified_header(tokens[name])["alg"] == "HS256"
            claims = jwt.decode(
                tokens[name], settings.SECRET_KEY, ["HS256"], issuer="myometrics-backend"
            )
            assert claims["exp"] - claims["iat"] == lifetime

    def test_failed_logins_have_identical_body(self, doctor):
        make_user("gone@clinic.example", is_active=False)
        answers = [
            login("unknown@clinic.example"),
            login(doctor.email, "wrong"),
            login("gone@clinic.example"),
            login("gone@clinic.example", "wrong"),
            login("no address at all"),
            login("dóctor@clinic.example"),
        ]
        for answer in answers:
            body = assert_error(answer, 401, code="invalid_credentials")
            assert body["detail"] == "Invalid credentials"
            assert body["field_errors"] == {}
            assert answer["WWW-Authenticate"] == "Bearer"
        assert len({answer.content for answer in answers}) == 1

    @pytest.mark.parametrize(
        "typed",
        ["DOCTOR@CLINIC.EXAMPLE", "Doctor@Clinic.Example", " doctor@clinic.example ",
         "ｄoctor@clinic.example"],
    )  # fmt: skip
    def test_email_matches_regardless_of_case(self, doctor, typed):
        assert login(typed).json()["user"]["id"] == doctor.pk

    def test_password_is_not_normalized(self):
        make_user("spaces@clinic.example").set_password("x")
        user = get_user_model().objects.get(email="spaces@clinic.example")
        user.set_password("  correct horse  ")
        user.save()
        assert login(user.email, "  correct horse  ").status_code == 200
        assert_error(login(user.email, "correct horse"), 401)
        assert_error(login(user.email, "  CORRECT HORSE  "), 401)

    def test_login_sets_last_login(self, doctor):
        before = utc_now()
        login(doctor.email)
        doctor.refresh_from_db()
        assert before <= doctor.last_login <= utc_now()


class TestForeignAuthorization:
    FOREIGN = ["Bearer x", "Bearer a.b.c", "Basic eDp5", "Bearer", "nonsense", "\xe9"]

    @pytest.mark.parametrize("header", FOREIGN)
    def test_foreign_authorization_is_ignored_on_public_endpoints(self, doctor, tokens, header):
        headers = {"HTTP_AUTHORIZATION": header}
        assert login(doctor.email, **headers).status_code == 200
        assert post("register", REGISTRATION, **headers).status_code == 201
        assert post("password-reset", {"email": doctor.email}, **headers).status_code == 200
        refresh = {"refresh": tokens["refresh"]}
        assert post("token/refresh", refresh, **headers).status_code == 200

    @pytest.mark.parametrize("header", FOREIGN)
    def test_foreign_authorization_is_json_401_elsewhere(self, doctor, header):
        client = APIClient(HTTP_AUTHORIZATION=header)
        assert_error(client.get("/api/auth/user/"), 401)
        assert_error(client.get("/api/health/"), 401)
        assert_error(post("logout", {"refresh": "x"}, client), 401)

    def test_stale_token_is_ignored_on_public_endpoints(self, doctor, tokens):
        Session.objects.all().end()
        headers = {"HTTP_AUTHORIZATION": f"Bearer {tokens['access']}"}
        assert login(doctor.email, **headers).status_code == 200
        assert post("password-reset", {"email": doctor.email}, **headers).status_code == 200


def forged(claims, key, algorithm="HS256", header=None):
    return jwt.encode(claims, key, algorithm, headers=header)


def segment(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


class TestForgedTokens:
    def bad_tokens(self, tokens, which, settings):
        key = settings.SECRET_KEY
        claims = jwt.decode(tokens[which], key, ["HS256"], options={"verify_iss": False})
        other = "refresh" if which == "access" else "access"
        body = tokens[which].split(".")[1]
        yield "unsigned", f"{segment({'alg': 'none', 'typ': 'JWT'})}.{body}."
        yield "unsigned in disguise", f"{segment({'alg': 'nOnE'})}.{body}.x"
        yield "HS512", forged(claims, key, "HS512")
        yield "HS384", forged(claims, key, "HS384")
        yield "another key", forged(claims, "another-key-of-forty-characters-and-more")
        yield "an empty signature", tokens[which].rpartition(".")[0] + "."
        yield "the other token", tokens[other]
        yield "the other type", forged({**claims, "token_type": other}, key)
        yield "no type", forged({k: v for k, v in claims.items() if k != "token_type"}, key)
        yield "another issuer", forged({**claims, "iss": "someone-else"}, key)
        yield "no issuer", forged({k: v for k, v in claims.items() if k != "iss"}, key)
        yield "expired", forged({**claims, "exp": 1}, key)
        yield "another user", forged({**claims, "user_id": "987654"}, key)
        yield "a user that can't be", forged({**claims, "user_id": "\x00"}, key)
        for sid in ("x", "", None, 5, [], "00000000-0000-0000-0000-000000000000"):
            yield f"session {sid!r}", forged({**claims, "sid": sid}, key)
        yield "no session", forged({k: v for k, v in claims.items() if k != "sid"}, key)
        yield "text behind it", tokens[which] + "x"
        yield "a deep header", base64.urlsafe_b64encode(b"[" * 2900).decode() + ".e30.AAAA"
        yield "two dots more", tokens[which] + ".."
        yield "very long", "x." * 5_000
        yield "nothing", "..."

    @pytest.mark.parametrize("which", ["access", "refresh"])
    def test_forged_token_is_rejected(self, tokens, settings, which):
        assert is_live(tokens)
        for name, token in self.bad_tokens(tokens, which, settings):
            if which == "access":
                answer = with_token(token).get("/api/auth/user/")
            else:
                answer = post("token/refresh", {"refresh": token})
            assert answer.status_code == 401, name
            assert_error(answer, 401, code="token_not_valid")
        assert is_live(tokens)

    def test_logout_rejects_forged_access_token_but_accepts_expired(self, tokens, settings):
        for name, token in self.bad_tokens(tokens, "access", settings):
            if name not in ("expired",):
                answer = post("logout", {"refresh": tokens["refresh"]}, with_token(token))
                assert answer.status_code == 401, name
        assert is_live(tokens)


class TestRegister:
    def test_register_response_has_specified_shape(self):
        answer = post("register", REGISTRATION)
        assert answer.status_code == 201
        assert types_of(answer.json()) == {"access": str, "refresh": str, "user": dict}
        assert types_of(answer.json()["user"]) == PROFILE
        assert answer.json()["user"]["role"] == "doctor"
        assert is_live(answer.json())
        assert login("new@clinic.example").status_code == 200

    def test_clinic_is_optional(self):
        body = {name: text for name, text in REGISTRATION.items() if name != "clinicName"}
        assert post("register", body).json()["user"]["clinicName"] == ""

    def test_role_and_unknown_fields_are_ignored(self):
        extra = {
            "role": "admin", "isActive": False, "is_staff": True, "is_superuser": True, "id": 77,
            "dateJoined": "1999-01-01T00:00:00Z", "lastLogin": None, "email_canonical": "x",
        }  # fmt: skip
        answer = post("register", {**REGISTRATION, **extra})
        assert answer.json()["user"]["role"] == "doctor"
        user = get_user_model().objects.get(email="new@clinic.example")
        assert (user.is_active, user.is_staff, user.is_superuser) == (True, False, False)
        assert user.pk != 77
        assert user.date_joined.year > 2000

    def test_email_is_stored_lower_case(self):
        answer = post("register", {**REGISTRATION, "email": "New.User@CLINIC.Example"})
        assert answer.json()["user"]["email"] == "new.user@clinic.example"

    @pytest.mark.parametrize(
        "email",
        ["doctor@clinic.example", "DOCTOR@clinic.example", " doctor@clinic.example",
         "doctor@CLINIC.example", "ｄｏｃｔｏｒ@clinic.example", "doctor@clinic\uff0eexample"],
    )  # fmt: skip
    def test_taken_email_is_400_regardless_of_case(self, doctor, email):
        answer = post("register", {**REGISTRATION, "email": email})
        assert_error(answer, 400, field="email")
        assert get_user_model().objects.count() == 1

    @pytest.mark.parametrize(
        "email", ["dосtor@clinic.example", "doctor@clınic.example", "doctor\u200b@clinic.example"]
    )
    def test_look_alike_email_is_rejected(self, doctor, email):
        assert_error(post("register", {**REGISTRATION, "email": email}), 400, field="email")

    @pytest.mark.parametrize("password", ["short", "12345678901", "password", "newnewnew@clinic"])
    def test_password_validators_report_on_password(self, password):
        registration = {**REGISTRATION, "email": "newnewnew@clinic.example", "password": password}
        body = assert_error(post("register", registration), 400, field="password")
        assert set(body["field_errors"]) == {"password"}
        assert not get_user_model().objects.exists()

    def test_register_reports_all_errors_at_once(self, doctor):
        registration = {**REGISTRATION, "email": doctor.email, "password": "short"}
        body = assert_error(post("register", registration), 400)
        assert set(body["field_errors"]) == {"email", "password"}

    @pytest.mark.django_db(transaction=True)
    def test_twenty_simultaneous_registrations_create_one_user(self, run_concurrently):
        variants = ["new@clinic.example", "NEW@clinic.example", " New@Clinic.example"]
        calls = [
            lambda n=n: post("register", {**REGISTRATION, "email": variants[n % 3]})
            for n in range(20)
        ]
        answers = run_concurrently(calls)
        assert sorted(answer.status_code for answer in answers) == [201] + [400] * 19
        for answer in answers:
            if answer.status_code == 400:
                assert_error(answer, 400, field="email")
        assert get_user_model().objects.count() == 1
        assert Session.objects.count() == 1


class TestProfile:
    def test_profile_responses_have_specified_shape(self, doctor):
        client = client_of(doctor)
        body = {"firstName": "Johnny", "lastName": "Doe", "clinicName": "Updated Medical Center"}
        read = client.get("/api/auth/user/")
        written = send_json(client, "PUT", "/api/auth/user/", body)
        assert read.status_code == written.status_code == 200
        assert types_of(read.json()) == types_of(written.json()) == PROFILE
        assert written.json() == {**read.json(), **body}
        assert client.get("/api/auth/user/").json() == written.json()

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    def test_read_only_profile_fields_are_ignored(self, doctor, method):
        client = client_of(doctor)
        before = client.get("/api/auth/user/").json()
        body = {
            "id": 99, "email": "other@clinic.example", "role": "admin", "isActive": False,
            "dateJoined": "1999-01-01T00:00:00Z", "is_staff": True, "password": "x",
            "clinicName": "New",
        }  # fmt: skip
        answer = send_json(client, method, "/api/auth/user/", body)
        assert answer.status_code == 200
        assert answer.json() == {**before, "clinicName": "New"}
        assert login(doctor.email).status_code == 200
        doctor.refresh_from_db()
        assert (doctor.is_staff, doctor.is_active) == (False, True)

    def test_invalid_values_in_read_only_fields_are_ignored(self, doctor):
        body = {"email": ["\x00"], "role": 5, "id": None, "firstName": "Jo"}
        answer = send_json(client_of(doctor), "PATCH", "/api/auth/user/", body)
        assert answer.status_code == 200
        assert answer.json()["firstName"] == "Jo"

    def test_name_holds_30_characters_and_clinic_100_in_any_script(self, doctor):
        body = {"firstName": "é" * 30, "lastName": "𝄞" * 30, "clinicName": "字" * 100}
        answer = send_json(client_of(doctor), "PUT", "/api/auth/user/", body)
        assert answer.json() == {**answer.json(), **body}

    def test_concurrent_changes_of_different_fields_both_succeed(self, doctor):
        client = client_of(doctor)
        send_json(client, "PATCH", "/api/auth/user/", {"firstName": "A"})
        send_json(client, "PATCH", "/api/auth/user/", {"lastName": "B"})
        profile = client.get("/api/auth/user/").json()
        assert (profile["firstName"], profile["lastName"]) == ("A", "B")


class TestLogout:
    def test_logout_ends_both_tokens(self, tokens):
        answer = post("logout", {"refresh": tokens["refresh"]}, with_token(tokens["access"]))
        assert answer.status_code == 200
        assert answer.json() == {"detail": "Successfully logged out"}
        assert not is_live(tokens)

    def test_logout_accepts_expired_access_token(self, tokens, settings):
        claims = jwt.decode(tokens["access"], options={"verify_signature": False})
        expired = forged({**claims, "exp": int(utc_now().timestamp()) - 60}, settings.SECRET_KEY)
        assert_error(with_token(expired).get("/api/auth/user/"), 401)
        answer = post("logout", {"refresh": tokens["refresh"]}, with_token(expired))
        assert answer.status_code == 200
        assert not is_live(tokens)

    def test_logout_without_header_is_401_and_ends_nothing(self, tokens):
        assert_error(post("logout", {"refresh": tokens["refresh"]}), 401)
        assert is_live(tokens)

    def test_second_logout_is_not_500(self, tokens):
        for status in (200, 401):
            answer = post("logout", {"refresh": tokens["refresh"]}, with_token(tokens["access"]))
            assert answer.status_code == status

    def test_logout_ends_session_of_refresh_token_only(self, doctor, tokens):
        other = login(doctor.email).json()
        answer = post("logout", {"refresh": other["refresh"]}, with_token(tokens["access"]))
        assert answer.status_code == 200
        assert is_live(tokens)
        assert not is_live(other)
        again = post("logout", {"refresh": other["refresh"]}, with_token(tokens["access"]))
        assert_error(again, 400, field="refresh")

    @pytest.mark.parametrize("bad", ["x", "a.b.c", " ", "x" * 16_000, "\x00", "\ud800", "é"])
    def test_logout_with_malformed_refresh_token_is_400_or_401(self, tokens, bad):
        answer = send_json(
            with_token(tokens["access"]), "POST", "/api/auth/logout/", {"refresh": bad}
        )
        assert answer.status_code in (400, 401)
        assert_error(answer, answer.status_code)
        assert is_live(tokens)

    def test_logout_with_access_token_as_refresh_ends_nothing(self, tokens):
        answer = post("logout", {"refresh": tokens["access"]}, with_token(tokens["access"]))
        assert answer.status_code in (400, 401)
        assert is_live(tokens)

    def test_logout_does_not_end_session_of_another_user(self, tokens):
        make_user("other@clinic.example")
        others = login("other@clinic.example").json()
        answer = post("logout", {"refresh": others["refresh"]}, with_token(tokens["access"]))
        assert answer.status_code in (400, 401)
        assert is_live(others)
        assert is_live(tokens)

    def test_logout_of_deleted_user_is_401(self, doctor, tokens):
        assert with_token(tokens["access"]).delete("/api/users/me/").status_code == 204
        answer = post("logout", {"refresh": tokens["refresh"]}, with_token(tokens["access"]))
        assert_error(answer, 401)


class TestRefresh:
    def test_refresh_response_holds_access_token_only(self, tokens):
        answer = post("token/refresh", {"refresh": tokens["refresh"]})
        assert answer.status_code == 200
        assert types_of(answer.json()) == {"access": str}
        assert with_token(answer.json()["access"]).get("/api/auth/user/").status_code == 200
        assert is_live(tokens)

    @pytest.mark.parametrize(
        "text", ["x", " ", "\x00", "\ud800", "é" * 2500, "x" * 16_000, "a.b.c", "null"],
        ids=lambda text: repr(text)[:12],
    )  # fmt: skip
    def test_refresh_with_any_other_text_is_401(self, text):
        answer = send_json(APIClient(), "POST", "/api/auth/token/refresh/", {"refresh": text})
        assert_error(answer, 401, code="token_not_valid")

    @pytest.mark.parametrize(
        "body",
        [{}, *({"refresh": value} for value in ("", None, 5, 1.5, True, ["x"], {}, {"a": "b"}))],
    )
    def test_missing_empty_or_non_text_refresh_is_400(self, body):
        answer = send_json(APIClient(), "POST", "/api/auth/token/refresh/", body)
        assert_error(answer, 400, field="refresh")

    @pytest.mark.parametrize("change", ["deactivated", "deleted", "ended", "expired"])
    def test_refresh_of_ended_session_is_401(self, doctor, change):
        session = client_of(doctor).session_of_token
        token = refresh_token(session)
        assert post("token/refresh", {"refresh": token}).status_code == 200
        if change == "deactivated":
            get_user_model().objects.update(is_active=False)
        elif change == "deleted":
            doctor.delete()
        elif change == "ended":
            Session.objects.all().end()
        else:
            Session.objects.update(expires_at=utc_now() - timedelta(seconds=1))
        assert_error(post("token/refresh", {"refresh": token}), 401, code="token_not_valid")


def change_password(client, old=PASSWORD, new=NEW_PASSWORD):
    return post("change-password", {"old_password": old, "new_password": new}, client)


class TestChangePassword:
    def test_new_password_works_after_change(self, doctor, tokens):
        answer = change_password(with_token(tokens["access"]))
        assert answer.status_code == 200
        assert answer.json() == {"detail": "Password changed successfully"}
        assert_error(login(doctor.email), 401)
        assert login(doctor.email, NEW_PASSWORD).status_code == 200

    def test_password_change_ends_other_sessions_only(self, doctor, tokens):
        others = [login(doctor.email).json() for _ in range(3)]
        assert change_password(with_token(tokens["access"])).status_code == 200
        assert is_live(tokens)
        assert not any(is_live(other) for other in others)

    def test_password_change_keeps_sessions_of_other_users(self, doctor, tokens):
        make_user("other@clinic.example")
        others = login("other@clinic.example").json()
        change_password(with_token(tokens["access"]))
        assert is_live(others)

    def test_wrong_old_password_is_400_and_changes_nothing(self, doctor, tokens):
        other = login(doctor.email).json()
        answer = change_password(with_token(tokens["access"]), old="wrong")
        body = assert_error(answer, 400, field="old_password")
        assert set(body["field_errors"]) == {"old_password"}
        assert is_live(other)
        assert login(doctor.email).status_code == 200

    @pytest.mark.parametrize("password", ["short", "12345678901", "password", "doctor@clinic"])
    def test_validators_report_on_new_password(self, tokens, password):
        answer = change_password(with_token(tokens["access"]), new=password)
        body = assert_error(answer, 400, field="new_password")
        assert set(body["field_errors"]) == {"new_password"}

    @pytest.mark.parametrize("missing", ["old_password", "new_password"])
    def test_old_and_new_password_are_required(self, tokens, missing):
        body = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}
        del body[missing]
        answer = post("change-password", body, with_token(tokens["access"]))
        assert_error(answer, 400, field=missing)


def mailed_link():
    """``uid`` and ``token`` of the one mail that the task sends."""
    mail.outbox.clear()
    run_jobs("myometrics_auth.send_password_reset")
    if not mail.outbox:
        return None
    [message] = mail.outbox
    link = re.search(r"https?://\S+", message.body).group()
    query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    return message, link, query


def confirm(link, password=NEW_PASSWORD):
    body = {"uid": link["uid"], "token": link["token"], "new_password": password}
    return post("password-reset/confirm", body)


class TestPasswordReset:
    @pytest.fixture
    def link(self, doctor):
        assert post("password-reset", {"email": doctor.email}).status_code == 200
        return mailed_link()[2]

    def test_reset_of_known_and_unknown_email_responds_equally(self, doctor):
        make_user("gone@clinic.example", is_active=False)
        for email in (doctor.email, "unknown@clinic.example", "gone@clinic.example"):
            answer = post("password-reset", {"email": email})
            assert answer.status_code == 200
            assert answer.json() == {"detail": "Password reset email sent"}

    def test_reset_mail_goes_to_stored_email_with_front_end_link(self, doctor, settings):
        post("password-reset", {"email": "DOCTOR@clinic.example"})
        message, link, query = mailed_link()
        assert message.to == ["doctor@clinic.example"]
        assert link.startswith(settings.MYOMETRICS["FRONTEND_URL"])
        assert set(query) == {"uid", "token"}

    @pytest.mark.parametrize("email", ["unknown@clinic.example", "gone@clinic.example"])
    def test_unknown_email_and_inactive_user_get_no_reset_mail(self, email):
        make_user("gone@clinic.example", is_active=False)
        post("password-reset", {"email": email})
        assert mailed_link() is None

    def test_reset_sets_password_and_ends_all_sessions(self, doctor, link):
        sessions = [login(doctor.email).json() for _ in range(2)]
        answer = confirm(link)
        assert answer.status_code == 200
        assert types_of(answer.json()) == {"detail": str}
        assert not any(is_live(session) for session in sessions)
        assert_error(login(doctor.email), 401)
        assert login(doctor.email, NEW_PASSWORD).status_code == 200

    def test_reset_link_works_once(self, link):
        assert confirm(link).status_code == 200
        assert_error(confirm(link), 400)
        assert_error(confirm(link, "yet-another-horse"), 400)

    def test_rejected_password_does_not_consume_reset_link(self, doctor, link):
        body = assert_error(confirm(link, "short"), 400, field="new_password")
        assert set(body["field_errors"]) == {"new_password"}
        assert confirm(link).status_code == 200
        assert login(doctor.email, NEW_PASSWORD).status_code == 200

    def test_reset_link_of_inactive_or_deleted_user_is_400(self, doctor, link):
        get_user_model().objects.update(is_active=False)
        assert_error(confirm(link), 400)
        doctor.delete()
        assert_error(confirm(link), 400)

    def test_reset_link_is_invalid_after_password_change(self, doctor, link):
        change_password(client_of(doctor))
        assert_error(confirm(link, "yet-another-horse"), 400)

    def test_wrong_reset_link_is_400_and_changes_nothing(self, doctor, link):
        other = make_user("other@clinic.example")
        uid_of_other = base64.urlsafe_b64encode(str(other.pk).encode()).decode().rstrip("=")
        for wrong in (
            {**link, "uid": uid_of_other},
            {**link, "uid": "x"},
            {**link, "uid": "é"},
            {**link, "uid": base64.urlsafe_b64encode(b"9" * 60).decode()},
            {**link, "uid": base64.urlsafe_b64encode(b"1\x00").decode()},
            {**link, "token": link["token"] + "x"},
            {**link, "token": "x-y"},
            {**link, "token": "-"},
            {**link, "token": "zzzzzzzzzzzzzzz-" + "0" * 32},
            {**link, "token": "é"},
        ):
            assert_error(confirm(wrong), 400)
        assert login(doctor.email).status_code == 200
        assert login(other.email).status_code == 200
        assert confirm(link).status_code == 200

    @pytest.mark.django_db(transaction=True)
    def test_one_of_ten_simultaneous_resets_succeeds(self, doctor, link, run_concurrently):
        calls = [lambda n=n: confirm(link, f"horse-battery-{n}") for n in range(10)]
        answers = run_concurrently(calls)
        statuses = [answer.status_code for answer in answers]
        assert sorted(statuses) == [200] + [400] * 9
        winner = statuses.index(200)
        assert login(doctor.email, f"horse-battery-{winner}").status_code == 200


class TestExpiredAccess:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "auth/user/"), ("PUT", "auth/user/"), ("POST", "auth/change-password/"),
            ("GET", "users/"), ("GET", "users/me/activity/"), ("DELETE", "users/me/"),
            ("GET", "users/me/export/"), ("PATCH", "users/me/notifications/"),
            ("GET", "analytics/"), ("POST", "audit-logs/"), ("GET", "audit-logs/"),
            ("GET", "health/"), ("GET", "auth/sessions/"), ("DELETE", "auth/sessions/"),
        ],
    )  # fmt: skip
    def test_expired_access_token_is_401_except_at_logout(self, settings, method, path):
        settings.MYOMETRICS_AUTH = {"ACCESS_TOKEN_LIFETIME": timedelta(seconds=1)}
        user = make_user("admin@clinic.example", role="admin")
        session = client_of(user).session_of_token
        claims = jwt.decode(access_token(session), options={"verify_signature": False})
        expired = forged({**claims, "exp": claims["iat"] - 1}, settings.SECRET_KEY)
        answer = with_token(expired).generic(method, f"/api/{path}")
        assert_error(answer, 401, code="token_not_valid")


@pytest.mark.usefixtures("tokens")
def test_profile_exposes_seven_columns_only(doctor):
    text = client_of(doctor).get("/api/auth/user/").content.decode()
    assert "password" not in text
    assert "search" not in text
