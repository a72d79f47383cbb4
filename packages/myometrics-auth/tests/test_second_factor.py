"""A second factor: enrolled, asked for, taken once, replaced, required."""

from __future__ import annotations

from datetime import timedelta

import pyotp
import pytest
from conftest import NEW_PASSWORD, PASSWORD, enrol, send, sign_out

from myometrics_auth.encryption import decrypt_secret, encrypt_secret
from myometrics_auth.models import RecoveryCode, SignInFailures, TotpDevice, UsedToken
from myometrics_auth.tasks import sweep
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db


def first_half(api, user, password=PASSWORD):
    answer = send(api, "post", "auth/login/", {"email": user.email, "password": password})
    assert answer.status_code == 200
    return answer.json()


def second_half(api, token, code):
    return send(api, "post", "auth/login/mfa/", {"mfa_token": token, "code": code})


class TestEnrolment:
    def test_gives_a_secret_for_the_app_and_ten_codes_on_paper(self, enrolled, doctor):
        assert enrolled.app.issuer == "MyoMetrics"
        assert enrolled.app.name == doctor.email
        assert len(set(enrolled.recovery_codes)) == 10
        state = enrolled.get("/api/auth/mfa/").json()
        assert state == {"enabled": True, "required": False, "recovery_codes_left": 10}

    def test_keeps_no_secret_in_the_clear(self, enrolled, doctor):
        device = TotpDevice.objects.get()
        assert enrolled.app.secret not in device.secret
        assert decrypt_secret(device.secret, owner=doctor.pk) == enrolled.app.secret
        hashes = {code.code_hash for code in RecoveryCode.objects.all()}
        assert not hashes & set(enrolled.recovery_codes)

    def test_counts_only_once_confirmed(self, clock, doctor, sign_in, api):
        client = sign_in(doctor)
        send(client, "post", "auth/mfa/enrol/", {"password": PASSWORD})
        assert client.get("/api/auth/mfa/").json()["enabled"] is False
        assert "access" in first_half(api, doctor)

    def test_needs_the_password(self, doctor, sign_in):
        answer = send(sign_in(doctor), "post", "auth/mfa/enrol/", {"password": "wrong"})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["password"]
        assert not TotpDevice.objects.exists()

    def test_needs_a_right_code_to_confirm(self, clock, doctor, sign_in):
        client = sign_in(doctor)
        send(client, "post", "auth/mfa/enrol/", {"password": PASSWORD})
        answer = send(client, "post", "auth/mfa/confirm/", {"code": "000000"})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["code"]

    def test_can_be_begun_again_until_confirmed_and_not_after(self, clock, doctor, sign_in):
        client = sign_in(doctor)
        for _ in range(2):
            answer = send(client, "post", "auth/mfa/enrol/", {"password": PASSWORD})
            assert answer.status_code == 201
        app = pyotp.parse_uri(answer.json()["otpauth_url"])
        assert (
            send(client, "post", "auth/mfa/confirm/", {"code": app.at(utc_now())}).status_code
            == 200
        )
        answer = send(client, "post", "auth/mfa/enrol/", {"password": PASSWORD})
        assert (answer.status_code, answer.json()["code"]) == (409, "second_factor_in_use")
        answer = send(client, "post", "auth/mfa/confirm/", {"code": "000000"})
        assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_confirm")

    def test_ends_every_other_session(self, clock, doctor, sign_in):
        other, client = sign_in(doctor), sign_in(doctor)
        enrol(client)
        assert other.get("/api/auth/user/").status_code == 401
        assert client.get("/api/auth/user/").status_code == 200

    @pytest.mark.parametrize("path", ["enrol", "confirm", "disable", "recovery-codes"])
    def test_is_for_the_signed_in(self, api, path):
        assert send(api, "post", f"auth/mfa/{path}/", {}).status_code == 401

    @pytest.mark.parametrize("path", ["enrol", "confirm", "disable", "recovery-codes"])
    @pytest.mark.parametrize("value", [None, 7, [], "x\x00", "\ud800", "x" * 300, ""])
    def test_refuses_what_is_no_text(self, doctor, sign_in, path, value):
        body = {"password": value, "code": value}
        answer = send(sign_in(doctor), "post", f"auth/mfa/{path}/", body)
        assert answer.status_code == 400
        assert answer.json()["field_errors"]


class TestSignIn:
    def test_asks_for_the_second_factor_instead_of_giving_tokens(self, enrolled, doctor, api):
        body = first_half(api, doctor)
        assert set(body) == {"mfa_required", "mfa_token"}
        assert body["mfa_required"] is True
        answer = api.get("/api/auth/user/", HTTP_AUTHORIZATION=f"Bearer {body['mfa_token']}")
        assert answer.status_code == 401

    def test_is_finished_by_a_code_of_the_app(self, enrolled, doctor, api):
        token = first_half(api, doctor)["mfa_token"]
        answer = second_half(api, token, enrolled.app.at(utc_now()))
        assert answer.status_code == 200
        assert set(answer.json()) == {"access", "refresh", "user"}
        header = f"Bearer {answer.json()['access']}"
        assert api.get("/api/auth/user/", HTTP_AUTHORIZATION=header).status_code == 200

    @pytest.mark.parametrize("seconds", [-30, 0, 30])
    def test_bears_a_clock_that_is_a_step_off(self, enrolled, doctor, api, seconds):
        token = first_half(api, doctor)["mfa_token"]
        code = enrolled.app.at(utc_now() + timedelta(seconds=seconds))
        assert second_half(api, token, code).status_code == 200

    @pytest.mark.parametrize("seconds", [-60, 60, 3600])
    def test_bears_no_clock_further_off(self, enrolled, doctor, api, seconds):
        token = first_half(api, doctor)["mfa_token"]
        code = enrolled.app.at(utc_now() + timedelta(seconds=seconds))
        assert second_half(api, token, code).status_code == 401

    def test_takes_no_code_twice_nor_an_older_one_after_a_newer(self, enrolled, doctor, api):
        for seconds, status in ((0, 200), (0, 401), (-30, 401), (30, 200)):
            token = first_half(api, doctor)["mfa_token"]
            code = enrolled.app.at(utc_now() + timedelta(seconds=seconds))
            assert second_half(api, token, code).status_code == status

    def test_takes_each_recovery_code_once_however_it_is_typed(self, enrolled, doctor, api):
        code = enrolled.recovery_codes[3]
        for typed, status in ((code.lower().replace("-", " "), 200), (code, 401)):
            token = first_half(api, doctor)["mfa_token"]
            assert second_half(api, token, typed).status_code == status
        assert RecoveryCode.objects.count() == 9

    def test_answers_a_wrong_code_like_a_wrong_password(self, enrolled, doctor, api):
        token = first_half(api, doctor)["mfa_token"]
        answer = second_half(api, token, "000000")
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    def test_waits_five_minutes_for_it(self, enrolled, doctor, api, clock):
        token = first_half(api, doctor)["mfa_token"]
        clock.shift(301)
        answer = second_half(api, token, enrolled.app.at(utc_now()))
        assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")

    def test_token_works_once(self, enrolled, doctor, api, clock):
        token = first_half(api, doctor)["mfa_token"]
        assert second_half(api, token, enrolled.app.at(utc_now())).status_code == 200
        clock.shift(60)
        for code in (enrolled.app.at(utc_now()), enrolled.recovery_codes[0], "000000"):
            answer = second_half(api, token, code)
            assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
        assert RecoveryCode.objects.count() == 10
        assert not SignInFailures.objects.exists()
        token = first_half(api, doctor)["mfa_token"]
        assert second_half(api, token, enrolled.app.at(utc_now())).status_code == 200

    def test_wrong_codes_do_not_use_the_token_up(self, enrolled, doctor, api):
        token = first_half(api, doctor)["mfa_token"]
        for _ in range(3):
            answer = second_half(api, token, "000000")
            assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
        assert SignInFailures.objects.get().failures == 3
        assert second_half(api, token, enrolled.app.at(utc_now())).status_code == 200

    def test_codes_refused_by_the_throttle_do_not_use_the_token_up(
        self, enrolled, doctor, api, clock, settings
    ):
        settings.MYOMETRICS_AUTH = {"MFA_FAILURE_PAUSE": timedelta(minutes=1)}
        token = first_half(api, doctor)["mfa_token"]
        for _ in range(10):
            second_half(api, token, "000000")
        assert second_half(api, token, enrolled.recovery_codes[0]).status_code == 401
        clock.shift(61)
        assert second_half(api, token, enrolled.recovery_codes[0]).status_code == 200

    def test_used_tokens_are_swept_after_they_have_expired(self, enrolled, doctor, api, clock):
        token = first_half(api, doctor)["mfa_token"]
        second_half(api, token, enrolled.app.at(utc_now()))
        assert UsedToken.objects.count() == 1
        sweep()
        assert UsedToken.objects.count() == 1
        clock.shift(timedelta(days=1, minutes=6))
        sweep()
        assert not UsedToken.objects.exists()

    def test_begun_with_a_password_since_changed_is_void(self, enrolled, doctor, api):
        token = first_half(api, doctor)["mfa_token"]
        change = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}
        assert send(enrolled, "post", "auth/change-password/", change).status_code == 200
        assert second_half(api, token, enrolled.app.at(utc_now())).status_code == 401

    def test_of_a_user_since_deactivated_or_deleted_is_void(self, enrolled, doctor, api):
        token = first_half(api, doctor)["mfa_token"]
        type(doctor).objects.update(is_active=False)
        assert second_half(api, token, enrolled.app.at(utc_now())).status_code == 401
        type(doctor).objects.all().delete()
        assert second_half(api, token, enrolled.app.at(utc_now())).status_code == 401

    @pytest.mark.parametrize("token", ["x", "a.b.c", "x\x00", "\ud800", "x" * 16_000])
    def test_refuses_a_token_that_is_none(self, api, token):
        assert second_half(api, token, "123456").status_code == 401

    @pytest.mark.parametrize("field", ["mfa_token", "code"])
    @pytest.mark.parametrize("value", [None, "", 7, [], {}])
    def test_names_what_is_no_text(self, api, field, value):
        body = {"mfa_token": "x", "code": "123456", field: value}
        answer = send(api, "post", "auth/login/mfa/", body)
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == [field]

    def test_without_a_second_factor_is_as_the_specification_says(self, doctor, api):
        assert set(first_half(api, doctor)) == {"access", "refresh", "user"}

    def test_guessing_is_slowed_and_no_right_code_is_burnt_meanwhile(
        self, enrolled, doctor, api, clock
    ):
        token = first_half(api, doctor)["mfa_token"]
        for _ in range(10):
            assert second_half(api, token, "000000").status_code == 401
        code = enrolled.recovery_codes[0]
        assert second_half(api, token, code).status_code == 401
        assert RecoveryCode.objects.count() == 10
        clock.shift(5 * 60 + 1)
        token = first_half(api, doctor)["mfa_token"]
        assert second_half(api, token, code).status_code == 200
        assert not SignInFailures.objects.exists()

    def test_is_finished_by_a_recovery_code_where_no_key_opens_the_secret(
        self, enrolled, doctor, api, settings, caplog
    ):
        TotpDevice.objects.update(secret=encrypt_secret("secret", owner=0))
        token = first_half(api, doctor)["mfa_token"]
        assert second_half(api, token, enrolled.app.at(utc_now())).status_code == 401
        assert "can't be decrypted" in caplog.text
        assert second_half(api, token, enrolled.recovery_codes[0]).status_code == 200


class TestDoingWithoutSecondFactor:
    @pytest.mark.parametrize("path", ["disable", "recovery-codes"])
    @pytest.mark.parametrize(("password", "code"), [("wrong", None), (PASSWORD, "000000")])
    def test_needs_password_and_code(self, enrolled, path, password, code):
        body = {"password": password, "code": code or enrolled.app.at(utc_now())}
        answer = send(enrolled, "post", f"auth/mfa/{path}/", body)
        assert answer.status_code == 400
        assert TotpDevice.objects.exists()

    def test_makes_sign_in_plain_again(self, enrolled, doctor, api):
        body = {"password": PASSWORD, "code": enrolled.app.at(utc_now())}
        assert send(enrolled, "post", "auth/mfa/disable/", body).status_code == 204
        assert "access" in first_half(api, doctor)
        assert not RecoveryCode.objects.exists()
        answer = send(enrolled, "post", "auth/mfa/disable/", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "no_second_factor")

    def test_new_recovery_codes_void_the_old(self, enrolled, doctor, api):
        body = {"password": PASSWORD, "code": enrolled.app.at(utc_now())}
        answer = send(enrolled, "post", "auth/mfa/recovery-codes/", body)
        assert answer.status_code == 200
        fresh = answer.json()["recovery_codes"]
        assert not set(fresh) & set(enrolled.recovery_codes)
        for code, status in ((enrolled.recovery_codes[0], 401), (fresh[0], 200)):
            token = first_half(api, doctor)["mfa_token"]
            assert second_half(api, token, code).status_code == status

    def test_an_erased_account_takes_its_second_factor_along(self, enrolled, doctor, api):
        assert second_half(api, first_half(api, doctor)["mfa_token"], "000000").status_code == 401
        assert enrolled.delete("/api/users/me/").status_code == 204
        assert not TotpDevice.objects.exists()
        assert not SignInFailures.objects.exists()
        assert not RecoveryCode.objects.exists()


class TestRequirement:
    @pytest.fixture(autouse=True)
    def _required(self, settings):
        settings.MYOMETRICS_AUTH = {"MFA_REQUIRED_ROLES": ["admin"]}

    def test_leaves_other_roles_alone(self, doctor, sign_in):
        assert sign_in(doctor).get("/api/users/me/export/").status_code == 200

    def test_lets_people_without_one_do_nothing_but_set_it_up(self, clock, administrator, sign_in):
        client = sign_in(administrator)
        answer = client.get("/api/users/")
        assert (answer.status_code, answer.json()["code"]) == (403, "second_factor_required")
        assert client.get("/api/auth/user/").status_code == 200
        assert client.get("/api/auth/mfa/").json()["required"] is True
        enrol(client)
        assert client.get("/api/users/").status_code == 200

    def test_lets_them_sign_out(self, administrator, sign_in):
        client = sign_in(administrator)
        assert sign_out(client, client.tokens["refresh"]).status_code == 200

    def test_counts_at_once_for_who_is_made_administrator(self, doctor, sign_in):
        client = sign_in(doctor)
        type(doctor).objects.update(role="admin")
        assert client.get("/api/users/").status_code == 403
