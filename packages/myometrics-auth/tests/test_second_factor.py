"""Second factor: enrolment, sign-in, recovery codes, required roles."""

from __future__ import annotations

from datetime import timedelta

import pyotp
import pytest
from conftest import NEW_PASSWORD, PASSWORD, enrol, send, sign_out

from myometrics_auth.encryption import decrypt_secret, encrypt_secret
from myometrics_auth.models import RecoveryCode, SignInFailures, TotpDevice, UsedToken
from myometrics_auth.services.sign_in import used_tokens_sweep
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db


def first_half(api, user, password=PASSWORD):
    answer = send(api, "post", "auth/login/", {"email": user.email, "password": password})
    assert answer.status_code == 200
    return answer.json()


def second_half(api, token, code):
    return send(api, "post", "auth/login/mfa/", {"mfa_token": token, "code": code})


class TestEnrolment:
    def test_enrolment_returns_secret_and_ten_recovery_codes(self, enrolled, doctor):
        assert enrolled.app.issuer == "MyoMetrics"
        assert enrolled.app.name == doctor.email
        assert len(set(enrolled.recovery_codes)) == 10
        state = enrolled.get("/api/auth/mfa/").json()
        assert state == {"enabled": True, "required": False, "recovery_codes_left": 10}

    def test_secret_is_stored_encrypted(self, enrolled, doctor):
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

    def test_enrolment_can_be_restarted_until_confirmed(self, clock, doctor, sign_in):
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
    def test_enrolment_needs_a_token(self, api, path):
        assert send(api, "post", f"auth/mfa/{path}/", {}).status_code == 401

    @pytest.mark.parametrize("path", ["enrol", "confirm", "disable", "recovery-codes"])
    @pytest.mark.parametrize("value", [None, 7, [], "x\x00", "\ud800", "x" * 300, ""])
    def test_non_text_values_are_refused(self, doctor, sign_in, path, value):
        body = {"password": value, "code": value}
        answer = send(sign_in(doctor), "post", f"auth/mfa/{path}/", body)
        assert answer.status_code == 400
        assert answer.json()["field_errors"]


class TestSignIn:
    def test_login_with_totp_requires_second_factor(self, enrolled, doctor, api):
        body = first_half(api, doctor)
        assert set(body) == {"mfa_required", "mfa_token"}
        assert body["mfa_required"] is True
        answer = api.get("/api/auth/user/", HTTP_AUTHORIZATION=f"Bearer {body['mfa_token']}")
        assert answer.status_code == 401

    def test_code_of_the_app_finishes_sign_in(self, enrolled, doctor, api):
        token = first_half(api, doctor)["mfa_token"]
        answer = second_half(api, token, enrolled.app.at(utc_now()))
        assert answer.status_code == 200
        assert set(answer.json()) == {"access", "refresh", "user"}
        header = f"Bearer {answer.json()['access']}"
        assert api.get("/api/auth/user/", HTTP_AUTHORIZATION=header).status_code == 200

    @pytest.mark.parametrize("seconds", [-30, 0, 30])
    def test_clock_one_step_off_is_accepted(self, enrolled, doctor, api, seconds):
        token = first_half(api, doctor)["mfa_token"]
        code = enrolled.app.at(utc_now() + timedelta(seconds=seconds))
        assert second_half(api, token, code).status_code == 200

    @pytest.mark.parametrize("seconds", [-60, 60, 3600])
    def test_clock_two_steps_off_is_refused(self, enrolled, doctor, api, seconds):
        token = first_half(api, doctor)["mfa_token"]
        code = enrolled.app.at(utc_now() + timedelta(seconds=seconds))
        assert second_half(api, token, code).status_code == 401

    def test_used_or_older_code_is_refused(self, enrolled, doctor, api):
        for seconds, status in ((0, 200), (0, 401), (-30, 401), (30, 200)):
            token = first_half(api, doctor)["mfa_token"]
            code = enrolled.app.at(utc_now() + timedelta(seconds=seconds))
            assert second_half(api, token, code).status_code == status

    def test_recovery_code_works_once_in_any_spelling(self, enrolled, doctor, api):
        code = enrolled.recovery_codes[3]
        for typed, status in ((code.lower().replace("-", " "), 200), (code, 401)):
            token = first_half(api, doctor)["mfa_token"]
            assert second_half(api, token, typed).status_code == status
        assert RecoveryCode.objects.count() == 9

    def test_wrong_code_has_response_of_wrong_password(self, enrolled, doctor, api):
        token = first_half(api, doctor)["mfa_token"]
        answer = second_half(api, token, "000000")
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    def test_mfa_token_expires_after_five_minutes(self, enrolled, doctor, api, clock):
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
        used_tokens_sweep()
        assert UsedToken.objects.count() == 1
        clock.shift(timedelta(days=1, minutes=6))
        used_tokens_sweep()
        assert not UsedToken.objects.exists()

    def test_mfa_token_is_invalid_after_password_change(self, enrolled, doctor, api):
        token = first_half(api, doctor)["mfa_token"]
        change = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}
        assert send(enrolled, "post", "auth/change-password/", change).status_code == 200
        assert second_half(api, token, enrolled.app.at(utc_now())).status_code == 401

    def test_mfa_token_of_inactive_or_deleted_user_is_invalid(self, enrolled, doctor, api):
        token = first_half(api, doctor)["mfa_token"]
        type(doctor).objects.update(is_active=False)
        assert second_half(api, token, enrolled.app.at(utc_now())).status_code == 401
        type(doctor).objects.all().delete()
        assert second_half(api, token, enrolled.app.at(utc_now())).status_code == 401

    @pytest.mark.parametrize("token", ["x", "a.b.c", "x\x00", "\ud800", "x" * 16_000])
    def test_malformed_mfa_token_is_refused(self, api, token):
        assert second_half(api, token, "123456").status_code == 401

    @pytest.mark.parametrize("field", ["mfa_token", "code"])
    @pytest.mark.parametrize("value", [None, "", 7, [], {}])
    def test_non_text_values_are_400s(self, api, field, value):
        body = {"mfa_token": "x", "code": "123456", field: value}
        answer = send(api, "post", "auth/login/mfa/", body)
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == [field]

    def test_without_a_second_factor_is_as_the_specification_says(self, doctor, api):
        assert set(first_half(api, doctor)) == {"access", "refresh", "user"}

    def test_throttle_refuses_correct_code_without_using_it(self, enrolled, doctor, api, clock):
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

    def test_recovery_code_works_if_secret_cannot_be_decrypted(
        self, enrolled, doctor, api, settings, caplog
    ):
        TotpDevice.objects.update(secret=encrypt_secret("secret", owner=0))
        token = first_half(api, doctor)["mfa_token"]
        assert second_half(api, token, enrolled.app.at(utc_now())).status_code == 401
        assert "can't be decrypted" in caplog.text
        assert second_half(api, token, enrolled.recovery_codes[0]).status_code == 200


class TestDisabling:
    @pytest.mark.parametrize("path", ["disable", "recovery-codes"])
    @pytest.mark.parametrize(("password", "code"), [("wrong", None), (PASSWORD, "000000")])
    def test_needs_password_and_code(self, enrolled, path, password, code):
        body = {"password": password, "code": code or enrolled.app.at(utc_now())}
        answer = send(enrolled, "post", f"auth/mfa/{path}/", body)
        assert answer.status_code == 400
        assert TotpDevice.objects.exists()

    def test_sign_in_needs_no_code_after_disabling(self, enrolled, doctor, api):
        body = {"password": PASSWORD, "code": enrolled.app.at(utc_now())}
        assert send(enrolled, "post", "auth/mfa/disable/", body).status_code == 204
        assert "access" in first_half(api, doctor)
        assert not RecoveryCode.objects.exists()
        answer = send(enrolled, "post", "auth/mfa/disable/", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "no_second_factor")

    def test_new_recovery_codes_invalidate_the_old(self, enrolled, doctor, api):
        body = {"password": PASSWORD, "code": enrolled.app.at(utc_now())}
        answer = send(enrolled, "post", "auth/mfa/recovery-codes/", body)
        assert answer.status_code == 200
        fresh = answer.json()["recovery_codes"]
        assert not set(fresh) & set(enrolled.recovery_codes)
        for code, status in ((enrolled.recovery_codes[0], 401), (fresh[0], 200)):
            token = first_half(api, doctor)["mfa_token"]
            assert second_half(api, token, code).status_code == status

    def test_erasure_deletes_the_second_factor(self, enrolled, doctor, api):
        assert second_half(api, first_half(api, doctor)["mfa_token"], "000000").status_code == 401
        assert enrolled.delete("/api/users/me/").status_code == 204
        assert not TotpDevice.objects.exists()
        assert not SignInFailures.objects.exists()
        assert not RecoveryCode.objects.exists()


class TestRequirement:
    @pytest.fixture(autouse=True)
    def _required(self, settings):
        settings.MYOMETRICS_AUTH = {"MFA_REQUIRED_ROLES": ["admin"]}

    def test_other_roles_are_not_affected(self, doctor, sign_in):
        assert sign_in(doctor).get("/api/users/me/export/").status_code == 200

    def test_user_without_second_factor_may_only_enrol(self, clock, administrator, sign_in):
        client = sign_in(administrator)
        answer = client.get("/api/users/")
        assert (answer.status_code, answer.json()["code"]) == (403, "second_factor_required")
        assert client.get("/api/auth/user/").status_code == 200
        assert client.get("/api/auth/mfa/").json()["required"] is True
        enrol(client)
        assert client.get("/api/users/").status_code == 200

    def test_user_without_second_factor_may_sign_out(self, administrator, sign_in):
        client = sign_in(administrator)
        assert sign_out(client, client.tokens["refresh"]).status_code == 200

    def test_requirement_applies_at_once_to_new_administrators(self, doctor, sign_in):
        client = sign_in(doctor)
        type(doctor).objects.update(role="admin")
        assert client.get("/api/users/").status_code == 403
