"""Passkeys: registration, sign-in, second factor, policy, removal."""

from __future__ import annotations

import dataclasses
import json
import uuid
from datetime import timedelta

import pytest
from authenticator import AAGUID, USER_PRESENT, Authenticator, Maker
from conftest import PASSWORD, enrol, later, query_of, send
from django.contrib.auth.hashers import make_password
from rest_framework.test import APIClient

from myometrics_auth.account_links import notice_url
from myometrics_auth.models import RecoveryCode, Session
from myometrics_auth.passkeys.models import Passkey, PasskeyChallenge
from myometrics_auth.passkeys.services import challenges_sweep
from myometrics_auth.reset_links import reset_link
from myometrics_auth.services.notices import SEND_NOTICE
from myometrics_core.jobs import Job
from myometrics_core.personal_data import erase_user, export_chunks
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db

LIST = "/api/auth/passkeys/"
OPTIONS = {"challenge": "AAAA", "user": {"id": "AAAA"}}


def options_of(answer):
    assert answer.status_code == 200, answer.json()
    return answer.json()["publicKey"]


def creation_options(client, password=PASSWORD):
    return options_of(
        send(client, "post", "auth/passkeys/register/options/", {"password": password})
    )


def register(client, authenticator=None, **changes):
    """Register a new passkey; return the authenticator and the answer."""
    authenticator = authenticator or Authenticator()
    credential = authenticator.create(creation_options(client), **changes)
    body = {"passkey": credential, "name": "Phone"}
    return authenticator, send(client, "post", "auth/passkeys/register/verify/", body)


def sign_in_options(client=None, **body):
    return options_of(send(client or APIClient(), "post", "auth/login/passkey/options/", body))


def verify(credential, client=None):
    body = {"passkey": credential}
    return send(client or APIClient(), "post", "auth/login/passkey/verify/", body)


def sign_in_with(authenticator, **changes):
    return verify(authenticator.get(sign_in_options(), **changes))


def password_step(user):
    body = {"email": user.email, "password": PASSWORD}
    answer = send(APIClient(), "post", "auth/login/", body)
    assert answer.status_code == 200
    return answer.json()


def second_step(authenticator, token, **changes):
    credential = authenticator.get(sign_in_options(mfa_token=token), **changes)
    body = {"mfa_token": token, "passkey": credential}
    return send(APIClient(), "post", "auth/login/mfa/", body)


def actions(published):
    return [event.action for event in published]


def notices():
    """The security notices that are about to be mailed, without those of new devices."""
    jobs = Job.objects.filter(kind=SEND_NOTICE).order_by("pk")
    sent = [job.payload["notice"] for job in jobs]
    return [notice for notice in sent if notice.startswith("passkey")]


@pytest.fixture
def client(doctor, sign_in):
    """The client of a signed-in doctor."""
    return sign_in(doctor)


@pytest.fixture
def phone(client):
    """A passkey of the doctor; ``client.recovery_codes`` are those of its registration."""
    authenticator, answer = register(client)
    assert answer.status_code == 201, answer.json()
    client.recovery_codes = answer.json()["recovery_codes"]
    return authenticator


class TestRegistration:
    def test_returns_the_passkey_and_recovery_codes_for_the_first(self, client, published):
        _phone, answer = register(client)
        assert answer.status_code == 201
        shown = answer.json()
        assert len(set(shown.pop("recovery_codes"))) == 10
        assert (shown["name"], shown["last_used_at"], shown["synced"]) == ("Phone", None, False)
        assert client.get(LIST).json() == [shown]
        assert "passkey_added" in actions(published)
        assert notices() == ["passkey_added"]
        _tablet, answer = register(client)
        assert answer.json()["recovery_codes"] == []

    def test_options_follow_the_specification_of_webauthn(self, client, doctor, settings):
        settings.MYOMETRICS_AUTH = {"PASSKEY_NAME": "Clinic"}
        options = creation_options(client)
        assert options["rp"] == {"id": "clinic.example", "name": "Clinic"}
        assert options["user"]["name"] == doctor.email
        assert options["user"]["displayName"] == "Jane Smith"
        assert options["attestation"] == "none"
        assert options["excludeCredentials"] == []

    def test_registered_passkeys_are_excluded(self, client, phone):
        (excluded,) = creation_options(client)["excludeCredentials"]
        assert excluded["id"] == phone.get({"challenge": ""})["id"]
        assert excluded["transports"] == ["internal", "hybrid"]

    def test_first_passkey_ends_other_sessions_and_marks_this_one(self, doctor, sign_in):
        other, client = sign_in(doctor), sign_in(doctor)
        register(client)
        assert other.get("/api/auth/user/").status_code == 401
        (session,) = client.get("/api/auth/sessions/").json()["results"]
        assert session["second_factor"] is True

    def test_second_passkey_leaves_other_sessions(self, client, phone):
        other = APIClient()
        other.credentials(HTTP_AUTHORIZATION=f"Bearer {sign_in_with(phone).json()['access']}")
        register(client)
        assert other.get("/api/auth/user/").status_code == 200

    def test_wrong_password_is_refused_and_recorded(self, client, published):
        body = {"password": "wrong"}
        answer = send(client, "post", "auth/passkeys/register/options/", body)
        assert (answer.status_code, list(answer.json()["field_errors"])) == (400, ["password"])
        assert "login_failed" in actions(published)

    def test_an_account_has_at_most_twenty(self, client, doctor, phone):
        row = Passkey.objects.get()
        for number in range(19):
            row.pk, row.credential_id = uuid.uuid4(), f"other{number}"
            row.save(force_insert=True)
        body = {"password": PASSWORD}
        answer = send(client, "post", "auth/passkeys/register/options/", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "too_many_passkeys")

    def test_is_renamed_and_removed_by_its_user_only(self, client, phone, make_user, sign_in):
        path = f"auth/passkeys/{client.get(LIST).json()[0]['id']}/"
        other = sign_in(make_user())
        assert other.get(LIST).json() == []
        assert send(other, "patch", path, {"name": "Mine"}).status_code == 404
        assert other.delete(f"/api/{path}").status_code == 404
        answer = send(client, "patch", path, {"name": "Desk"})
        assert (answer.status_code, answer.json()["name"]) == (200, "Desk")
        assert client.delete(f"/api/{path}").status_code == 204
        assert client.get(LIST).json() == []

    def test_needs_a_sign_in(self, api):
        assert api.get(LIST).status_code == 401
        for step in ("options", "verify"):
            assert send(api, "post", f"auth/passkeys/register/{step}/", {}).status_code == 401


class TestRecentSignIn:
    def test_recent_sign_in_replaces_the_password(self, client):
        assert send(client, "post", "auth/passkeys/register/options/", {}).status_code == 200

    def test_older_sign_in_needs_the_password(self, client):
        with later(minutes=11):
            answer = send(client, "post", "auth/passkeys/register/options/", {})
            assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
            creation_options(client)

    def test_passkey_confirms_the_identity(self, client, phone):
        with later(minutes=11):
            body = {"passkey": phone.get(sign_in_options())}
            assert send(client, "post", "auth/reauthenticate/", body).status_code == 200
            assert send(client, "post", "auth/passkeys/register/options/", {}).status_code == 200

    @pytest.mark.parametrize("changes", [{"flags": USER_PRESENT}, {"origin": "https://e.example"}])
    def test_wrong_response_does_not(self, client, phone, changes, published):
        body = {"passkey": phone.get(sign_in_options(), **changes)}
        answer = send(client, "post", "auth/reauthenticate/", body)
        assert (answer.status_code, list(answer.json()["field_errors"])) == (400, ["passkey"])
        assert actions(published)[-1] == "login_failed"

    @pytest.mark.parametrize("changes", [{}, {"user_handle": b""}])
    def test_passkey_of_another_user_does_not(self, phone, make_user, sign_in, changes):
        body = {"passkey": dataclasses.replace(phone, **changes).get(sign_in_options())}
        assert send(sign_in(make_user()), "post", "auth/reauthenticate/", body).status_code == 400

    def test_removal_needs_one_where_the_site_says_so(self, client, phone, settings):
        settings.MYOMETRICS_AUTH = {"REAUTHENTICATE_FOR": ["disable_mfa"]}
        path = f"{LIST}{client.get(LIST).json()[0]['id']}/"
        with later(minutes=11):
            answer = client.delete(path)
            assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
            send(client, "post", "auth/reauthenticate/", {"password": PASSWORD})
            assert client.delete(path).status_code == 204


REGISTRATION_ATTACKS = {
    "wrong origin": ({}, {"origin": "https://evil.example"}),
    "origin outside of the domain": ({}, {"origin": "https://elsewhere.example"}),
    "framed by another origin": ({}, {"crossOrigin": True}),
    "response to a sign-in": ({}, {"type": "webauthn.get"}),
    "other challenge": ({}, {"challenge": "AAAA"}),
    "challenge is no text": ({}, {"challenge": 7}),
    "user not present": ({}, {"flags": 0}),
    "wrong domain": ({"rp_id": "evil.example"}, {}),
}


@pytest.mark.parametrize("attack", REGISTRATION_ATTACKS)
def test_registration_is_refused(client, attack):
    authenticator, changes = REGISTRATION_ATTACKS[attack]
    _authenticator, answer = register(client, Authenticator(**authenticator), **changes)
    assert answer.status_code == 400
    assert list(answer.json()["field_errors"]) == ["passkey"]
    assert not Passkey.objects.exists()


class TestRegistrationChallenge:
    def test_is_used_once(self, client):
        credential = Authenticator().create(creation_options(client))
        body = {"passkey": credential}
        assert send(client, "post", "auth/passkeys/register/verify/", body).status_code == 201
        assert send(client, "post", "auth/passkeys/register/verify/", body).status_code == 400

    def test_is_used_up_by_a_wrong_response(self, client):
        options = creation_options(client)
        for origin, authenticator in (("https://evil.example", 0), ("https://clinic.example", 1)):
            body = {"passkey": Authenticator().create(options, origin=origin)}
            answer = send(client, "post", "auth/passkeys/register/verify/", body)
            assert answer.status_code == 400, authenticator

    def test_expires_after_five_minutes(self, client):
        body = {"passkey": Authenticator().create(creation_options(client))}
        with later(minutes=5, seconds=1):
            answer = send(client, "post", "auth/passkeys/register/verify/", body)
        assert answer.status_code == 400

    def test_belongs_to_one_session(self, client, doctor, sign_in):
        body = {"passkey": Authenticator().create(creation_options(client))}
        answer = send(sign_in(doctor), "post", "auth/passkeys/register/verify/", body)
        assert answer.status_code == 400

    def test_is_not_one_of_a_sign_in(self, client):
        options = {**creation_options(client), "challenge": sign_in_options()["challenge"]}
        body = {"passkey": Authenticator().create(options)}
        assert send(client, "post", "auth/passkeys/register/verify/", body).status_code == 400

    def test_passkey_of_another_user_is_refused(self, client, phone, make_user, sign_in):
        _phone, answer = register(sign_in(make_user()), phone)
        assert answer.status_code == 400
        assert Passkey.objects.count() == 1


class TestSignIn:
    def test_passkey_that_verifies_its_user_is_both_factors(self, phone, doctor, published):
        answer = sign_in_with(phone)
        assert answer.status_code == 200
        assert set(answer.json()) == {"access", "refresh", "user"}
        assert answer.json()["user"]["email"] == doctor.email
        assert Session.objects.order_by("created_at").last().second_factor
        assert actions(published)[-1] == "login_succeeded"
        assert Passkey.objects.get().last_used_at is not None

    def test_options_are_a_404_where_passkeys_have_no_domain(self, settings, doctor, sign_in):
        settings.MYOMETRICS = {**settings.MYOMETRICS, "FRONTEND_URL": "http://192.0.2.5:3000"}
        for client, path, body in (
            (APIClient(), "auth/login/passkey/options/", {}),
            (sign_in(doctor), "auth/passkeys/register/options/", {"password": PASSWORD}),
        ):
            answer = send(client, "post", path, body)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert not PasskeyChallenge.objects.exists()

    def test_options_are_the_same_for_all_users(self, phone, doctor):
        options = sign_in_options(email=doctor.email)
        options.pop("challenge")
        other = sign_in_options(email="nobody@clinic.example")
        assert other.pop("challenge")
        assert options == other
        assert options["allowCredentials"] == []
        assert options["userVerification"] == "required"

    def test_replaces_the_authenticator_app(self, enrolled, doctor):
        phone, answer = register(enrolled)
        assert answer.json()["recovery_codes"] == []
        assert sign_in_with(phone).status_code == 200

    def test_satisfies_roles_that_need_a_second_factor(self, phone, settings):
        settings.MYOMETRICS_AUTH = {"MFA_REQUIRED_ROLES": ["doctor"]}
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {sign_in_with(phone).json()['access']}")
        assert client.get("/api/auth/sessions/").status_code == 200

    def test_role_that_needs_a_second_factor_can_register_one(self, client, settings):
        settings.MYOMETRICS_AUTH = {"MFA_REQUIRED_ROLES": ["doctor"]}
        assert client.get("/api/auth/sessions/").status_code == 403
        register(client)
        assert client.get("/api/auth/sessions/").status_code == 200

    def test_passkey_without_a_counter_signs_in_again(self, client):
        phone, _answer = register(client, Authenticator(has_counter=False))
        assert [sign_in_with(phone).status_code for _ in range(2)] == [200, 200]

    def test_synced_passkey_signs_in(self, client):
        phone, answer = register(client, Authenticator(is_synced=True))
        assert answer.json()["synced"] is True
        assert sign_in_with(phone).status_code == 200

    def test_deactivated_user_is_refused(self, phone, doctor):
        doctor.is_active = False
        doctor.save()
        answer = sign_in_with(phone)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")

    def test_unverified_user_is_refused_where_the_site_says_so(self, phone, doctor, settings):
        settings.MYOMETRICS_AUTH = {"EMAIL_VERIFICATION": "required"}
        type(doctor).objects.filter(pk=doctor.pk).update(self_registered=True)
        credential = phone.get(sign_in_options())
        answer = verify(credential)
        assert (answer.status_code, answer.json()["code"]) == (403, "email_not_verified")
        settings.MYOMETRICS_AUTH = {}
        assert verify(credential).status_code == 401

    def test_removed_passkey_is_refused(self, client, phone):
        client.delete(f"{LIST}{client.get(LIST).json()[0]['id']}/")
        answer = sign_in_with(phone)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")

    def test_guessing_passwords_does_not_lock_it_out(self, phone, doctor, settings):
        settings.MYOMETRICS_AUTH = {"FAILED_SIGN_IN_LIMIT": 1}
        for _ in range(3):
            send(APIClient(), "post", "auth/login/", {"email": doctor.email, "password": "wrong"})
        assert sign_in_with(phone).status_code == 200

    def test_counter_that_goes_back_is_refused_and_recorded(self, phone, published):
        copy = dataclasses.replace(phone)
        assert [sign_in_with(phone).status_code for _ in range(2)] == [200, 200]
        published.clear()
        assert sign_in_with(copy).status_code == 401
        assert actions(published) == ["passkey_counter_regressed", "login_failed"]
        assert sign_in_with(phone).status_code == 200

    def test_forged_counter_is_not_recorded(self, phone, published):
        sign_in_with(phone)
        published.clear()
        forger = dataclasses.replace(phone, sign_count=0, key=Authenticator().key)
        assert sign_in_with(forger).status_code == 401
        assert actions(published) == ["login_failed"]


SIGN_IN_ATTACKS = {
    "wrong origin": ({}, {"origin": "https://evil.example"}),
    "origin outside of the domain": ({}, {"origin": "https://elsewhere.example"}),
    "origin with another port": ({}, {"origin": "https://clinic.example:8443"}),
    "origin without TLS": ({}, {"origin": "http://clinic.example"}),
    "subdomain that is not named": ({}, {"origin": "https://app.clinic.example"}),
    "framed by another origin": ({}, {"crossOrigin": True}),
    "response to a registration": ({}, {"type": "webauthn.create"}),
    "invented challenge": ({}, {"challenge": "AAAA"}),
    "challenge is no text": ({}, {"challenge": None}),
    "user not present": ({}, {"flags": 0x04}),
    "user not verified": ({}, {"flags": USER_PRESENT}),
    "became synced": ({}, {"flags": 0x1D}),
    "impossible backup flags": ({}, {"flags": 0x15}),
    "wrong domain": ({"rp_id": "evil.example"}, {}),
    "parent domain": ({"rp_id": "example"}, {}),
    "other key": ({"key": Authenticator().key}, {}),
    "unknown credential": ({"credential_id": b"unknown"}, {}),
    "other user": ({"user_handle": b"other"}, {}),
}


@pytest.mark.parametrize("attack", SIGN_IN_ATTACKS)
def test_sign_in_is_refused(phone, attack, published):
    authenticator, changes = SIGN_IN_ATTACKS[attack]
    before = Session.objects.count()
    published.clear()
    answer = sign_in_with(dataclasses.replace(phone, **authenticator), **changes)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
    assert Session.objects.count() == before
    assert actions(published) == ["login_failed"]


class TestSignInChallenge:
    def test_is_used_once(self, phone):
        credential = phone.get(sign_in_options())
        assert verify(credential).status_code == 200
        assert verify(credential).status_code == 401

    def test_is_used_up_by_a_wrong_response(self, phone):
        options = sign_in_options()
        assert verify(phone.get(options, origin="https://evil.example")).status_code == 401
        assert verify(phone.get(options)).status_code == 401

    def test_expires_after_five_minutes(self, phone):
        credential = phone.get(sign_in_options())
        with later(minutes=5, seconds=1):
            assert verify(credential).status_code == 401

    def test_is_not_one_of_a_second_factor(self, phone, doctor):
        token = password_step(doctor)["mfa_token"]
        assert verify(phone.get(sign_in_options(mfa_token=token))).status_code == 401

    def test_expired_ones_are_swept(self, phone):
        sign_in_options()
        assert challenges_sweep() == 0
        with later(minutes=6):
            assert challenges_sweep() == 1
        assert not PasskeyChallenge.objects.exists()


class TestSecondFactor:
    def test_password_needs_the_passkey(self, phone, doctor):
        outcome = password_step(doctor)
        assert outcome["mfa_required"] is True
        answer = second_step(phone, outcome["mfa_token"])
        assert answer.status_code == 200
        assert answer.json()["user"]["email"] == doctor.email

    def test_passkey_without_user_verification_is_enough(self, phone, doctor):
        token = password_step(doctor)["mfa_token"]
        assert second_step(phone, token, flags=USER_PRESENT).status_code == 200

    def test_options_name_the_passkeys_of_the_user(self, phone, doctor):
        options = sign_in_options(mfa_token=password_step(doctor)["mfa_token"])
        assert len(options["allowCredentials"]) == 1
        assert options["userVerification"] == "discouraged"

    def test_recovery_code_replaces_a_lost_passkey(self, client, phone, doctor):
        body = {"mfa_token": password_step(doctor)["mfa_token"], "code": client.recovery_codes[0]}
        assert send(APIClient(), "post", "auth/login/mfa/", body).status_code == 200
        body["mfa_token"] = password_step(doctor)["mfa_token"]
        assert send(APIClient(), "post", "auth/login/mfa/", body).status_code == 401

    def test_recovery_codes_can_be_replaced(self, client, phone):
        body = {"password": PASSWORD, "code": client.recovery_codes[0]}
        answer = send(client, "post", "auth/mfa/recovery-codes/", body)
        assert len(answer.json()["recovery_codes"]) == 10

    @pytest.mark.parametrize(
        ("attack", "body"),
        {"neither": {}, "both": {"code": "123456", "passkey": {}}}.items(),
    )
    def test_needs_exactly_one_proof(self, phone, doctor, attack, body):
        token = password_step(doctor)["mfa_token"]
        if "passkey" in body:
            body = {**body, "passkey": phone.get(sign_in_options(mfa_token=token))}
        answer = send(APIClient(), "post", "auth/login/mfa/", {"mfa_token": token, **body})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["passkey" if body else "code"]

    def test_wrong_response_keeps_the_token(self, phone, doctor):
        token = password_step(doctor)["mfa_token"]
        answer = second_step(phone, token, origin="https://evil.example")
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
        assert second_step(phone, token).status_code == 200
        answer = send(APIClient(), "post", "auth/login/passkey/options/", {"mfa_token": "wrong"})
        assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")

    def test_challenge_belongs_to_one_password_step(self, phone, doctor):
        tokens = [password_step(doctor)["mfa_token"] for _ in range(2)]
        credential = phone.get(sign_in_options(mfa_token=tokens[0]))
        body = {"mfa_token": tokens[1], "passkey": credential}
        assert send(APIClient(), "post", "auth/login/mfa/", body).status_code == 401

    @pytest.mark.parametrize("changes", [{}, {"user_handle": b""}])
    def test_passkey_of_another_user_is_refused(self, phone, make_user, sign_in, changes):
        other = make_user()
        register(sign_in(other))
        token = password_step(other)["mfa_token"]
        answer = second_step(dataclasses.replace(phone, **changes), token)
        assert answer.status_code == 401

    def test_passkey_that_names_no_user_is_accepted(self, phone, doctor):
        token = password_step(doctor)["mfa_token"]
        answer = second_step(dataclasses.replace(phone, user_handle=b""), token)
        assert answer.status_code == 200

    def test_user_without_a_passkey_gets_a_conflict(self, enrolled, doctor):
        body = {"mfa_token": password_step(doctor)["mfa_token"]}
        answer = send(APIClient(), "post", "auth/login/passkey/options/", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "no_passkey")

    def test_app_can_be_added_and_disabled_beside_a_passkey(self, client, phone, doctor):
        enrol(client)
        body = {"password": PASSWORD, "code": client.recovery_codes[0]}
        assert send(client, "post", "auth/mfa/disable/", body).status_code == 204
        state = client.get("/api/auth/mfa/").json()
        assert (state["enabled"], state["recovery_codes_left"]) == (True, 9)
        answer = send(client, "post", "auth/mfa/disable/", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "no_second_factor")
        assert password_step(doctor)["mfa_required"] is True


class TestRemoval:
    def remove(self, client):
        return client.delete(f"{LIST}{client.get(LIST).json()[0]['id']}/")

    def test_last_factor_takes_the_recovery_codes_with_it(self, client, phone, doctor, published):
        assert self.remove(client).status_code == 204
        assert "passkey_removed" in actions(published)
        assert notices()[-1] == "passkey_removed"
        assert not RecoveryCode.objects.exists()
        assert not Session.objects.filter(second_factor=True).exists()
        assert "access" in password_step(doctor)

    def test_app_and_recovery_codes_stay(self, enrolled, doctor):
        register(enrolled)
        assert self.remove(enrolled).status_code == 204
        assert RecoveryCode.objects.count() == 10
        assert password_step(doctor)["mfa_required"] is True

    def test_only_way_in_is_kept(self, client, phone, doctor):
        type(doctor).objects.filter(pk=doctor.pk).update(password=make_password(None))
        answer = self.remove(client)
        assert (answer.status_code, answer.json()["code"]) == (409, "last_way_in")

    def test_first_reset_of_an_unverified_account_removes_it(self, phone, doctor):
        doctor.self_registered = True
        doctor.save()
        body = {**query_of(reset_link(doctor)), "new_password": "loud-heron-wades-17"}
        assert send(APIClient(), "post", "auth/password-reset/confirm/", body).status_code == 200
        assert not Passkey.objects.exists()
        assert sign_in_with(phone).status_code == 401

    def test_page_of_a_security_notice_removes_recent_passkeys(self, client, phone, doctor):
        Passkey.objects.update(created_at=utc_now() - timedelta(days=9))
        thief, _answer = register(client)
        page = notice_url(doctor, "1")
        assert "that were added in the last eight days" in client.get(page).content.decode()
        assert client.post(page).status_code == 200
        assert sign_in_with(thief).status_code == 401
        assert sign_in_with(phone).status_code == 200
        assert RecoveryCode.objects.count() == 10

    def test_page_of_a_security_notice_removes_the_last_factor(self, client, phone, doctor):
        client.post(notice_url(doctor, "1"))
        assert not Passkey.objects.exists()
        assert not RecoveryCode.objects.exists()

    def test_erasure_deletes_passkeys_and_challenges(self, client, phone, doctor):
        creation_options(client)
        erase_user(doctor)
        assert not Passkey.objects.exists()
        assert not PasskeyChallenge.objects.exists()

    def test_export_names_the_passkeys_without_keys(self, phone, doctor, administrator):
        assert b"passkeys" not in b"".join(export_chunks(administrator, "json"))
        exported = json.loads(b"".join(export_chunks(doctor, "json")))
        (shown,) = exported["profile"]["passkeys"]
        assert set(shown) == {"id", "name", "created_at", "last_used_at", "synced"}


class TestPolicy:
    @pytest.fixture
    def maker(self, tmp_path):
        maker = Maker()
        maker.file = tmp_path / "roots.pem"
        maker.file.write_bytes(Maker().root + maker.root)
        return maker

    @pytest.fixture
    def require(self, settings):
        def require(**rules):
            settings.MYOMETRICS_AUTH = {"PASSKEY_POLICY": {"admin": rules}}

        return require

    @pytest.fixture
    def admin_client(self, administrator, sign_in):
        return sign_in(administrator)

    def test_synced_passkey_is_refused_at_registration(self, require, admin_client, client):
        require(synced=False)
        _phone, answer = register(admin_client, Authenticator(is_synced=True))
        assert (answer.status_code, list(answer.json()["field_errors"])) == (400, ["passkey"])
        assert register(admin_client)[1].status_code == 201
        assert register(client, Authenticator(is_synced=True))[1].status_code == 201

    def test_synced_passkey_is_refused_at_sign_in(self, require, admin_client, administrator):
        phone, _answer = register(admin_client, Authenticator(is_synced=True))
        require(synced=False)
        answer = sign_in_with(phone)
        assert (answer.status_code, answer.json()["code"]) == (403, "passkey_not_allowed")
        # The password alone must not be enough now, and the passkey not its second factor.
        token = password_step(administrator)["mfa_token"]
        answer = second_step(phone, token)
        assert (answer.status_code, answer.json()["code"]) == (403, "passkey_not_allowed")

    def test_change_of_role_applies_the_policy(self, require, phone, doctor):
        require(attestation="direct")
        assert sign_in_with(phone).status_code == 200
        doctor.role = "admin"
        doctor.save()
        assert sign_in_with(phone).status_code == 403

    def test_certified_model_is_accepted(self, require, admin_client, maker):
        require(attestation="direct", aaguids=[str(AAGUID)], roots=str(maker.file))
        assert creation_options(admin_client)["attestation"] == "direct"
        key = Authenticator(attests="certificate", maker=maker)
        assert register(admin_client, key)[1].status_code == 201
        assert Passkey.objects.get().attestation == "trusted"
        assert sign_in_with(key).status_code == 200

    @pytest.mark.parametrize("attests", ["", "self"])
    def test_model_without_certificate_is_refused(self, require, admin_client, attests):
        require(attestation="direct", aaguids=[str(AAGUID)])
        _key, answer = register(admin_client, Authenticator(attests=attests))
        assert answer.status_code == 400

    def test_model_that_is_not_listed_is_refused(self, require, admin_client, maker):
        require(attestation="direct", aaguids=[str(uuid.uuid4())], roots=str(maker.file))
        _key, answer = register(admin_client, Authenticator(attests="certificate", maker=maker))
        assert answer.status_code == 400

    def test_certificate_of_another_maker_is_refused(self, require, admin_client, maker):
        require(attestation="direct", roots=str(maker.file))
        key = Authenticator(attests="certificate", maker=Maker())
        assert register(admin_client, key)[1].status_code == 400

    @pytest.mark.parametrize(
        ("attests", "root"),
        [
            ("apple", "apple.apple_webauthn_root_ca"),
            ("android-safetynet", "android_safetynet.globalsign_root_ca"),
        ],
    )
    def test_phone_that_only_the_library_trusts_is_refused(
        self, require, admin_client, maker, monkeypatch, attests, root
    ):
        phone = Maker()
        formats = "webauthn.registration.formats"
        monkeypatch.setattr(f"{formats}.{root}", phone.root)
        monkeypatch.setattr(  # it allows ten seconds, which a slow machine may exceed
            f"{formats}.android_safetynet.verify_safetynet_timestamp", lambda timestamp: None
        )
        key = Authenticator(attests=attests, maker=phone, copied=[maker.certificate])
        # The attestation is a valid one.
        assert register(admin_client, key)[1].status_code == 201
        Passkey.objects.all().delete()
        require(attestation="direct", aaguids=[str(AAGUID)], roots=str(maker.file))
        _key, answer = register(admin_client, key)
        assert (answer.status_code, list(answer.json()["field_errors"])) == (400, ["passkey"])

    def test_phone_of_a_listed_maker_is_accepted(self, require, admin_client, maker):
        require(attestation="direct", aaguids=[str(AAGUID)], roots=str(maker.file))
        key = Authenticator(attests="apple", maker=maker)
        assert register(admin_client, key)[1].status_code == 201
        assert Passkey.objects.get().attestation == "trusted"

    def test_certificate_of_another_model_is_refused(self, require, admin_client):
        require(attestation="direct", aaguids=[str(AAGUID)])
        key = Authenticator(attests="certificate", maker=Maker(uuid.uuid4()))
        assert register(admin_client, key)[1].status_code == 400

    def test_models_can_be_listed_in_a_file(self, require, admin_client, maker, tmp_path):
        listed = tmp_path / "aaguids.txt"
        listed.write_text(f"# models\n{AAGUID}  # ours\n\n")
        require(attestation="direct", aaguids=str(listed), roots=str(maker.file))
        key = Authenticator(attests="certificate", maker=maker)
        assert register(admin_client, key)[1].status_code == 201
        listed.write_text(f"{uuid.uuid4()}\n")
        assert sign_in_with(key).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", "register/options/", {"password": PASSWORD}),
        ("post", "register/options/", {"password": "wrong"}),
        ("post", "register/verify/", {"passkey": Authenticator().create(OPTIONS)}),
        ("patch", f"{uuid.uuid4()}/", {"name": "Phone"}),
        ("delete", f"{uuid.uuid4()}/", {}),
    ],
    ids=["options", "options-wrong", "verify", "rename", "remove"],
)
def test_caller_deleted_concurrently_is_unauthorized(doctor, method, path, body):
    client = APIClient()
    client.force_authenticate(doctor)
    type(doctor).objects.filter(pk=doctor.pk).delete()
    answer = send(client, method, f"auth/passkeys/{path}", body)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")


ODD_CREDENTIALS = {
    "text": "passkey",
    "list": [],
    "null": None,
    "empty": {},
    "no response": {"id": "a", "rawId": "a", "type": "public-key"},
    "response is a list": {"id": "a", "rawId": "a", "type": "public-key", "response": []},
    "numbers": {"id": 1, "rawId": 2, "type": 3, "response": {"clientDataJSON": 4}},
    "NUL": {"id": "\x00", "rawId": "a", "type": "public-key", "response": {}},
    "surrogate": {"id": "\ud800", "rawId": "a", "type": "public-key", "response": {}},
    "long": {"id": "a" * 13_000},
    "deep": {"id": [[[[[[[[[[[]]]]]]]]]]]},
}


@pytest.mark.parametrize("kind", ODD_CREDENTIALS)
def test_odd_credential_is_a_400(client, api, doctor, kind):
    body = {"passkey": ODD_CREDENTIALS[kind]}
    for caller, path in ((client, "passkeys/register/verify/"), (api, "login/passkey/verify/")):
        answer = send(caller, "post", f"auth/{path}", body)
        assert (answer.status_code, list(answer.json()["field_errors"])) == (400, ["passkey"])
    body["mfa_token"] = "x"
    assert send(api, "post", "auth/login/mfa/", body).status_code == 400


GARBAGE = ["", "*", "AAAA", "eyJ9", "W10", "bnVsbA", "e30", "eyJjaGFsbGVuZ2UiOnt9fQ"]


@pytest.mark.parametrize("text", GARBAGE)
@pytest.mark.parametrize("part", ["clientDataJSON", "authenticatorData", "signature", "userHandle"])
def test_garbage_in_a_response_is_a_401(phone, part, text):
    credential = phone.get(sign_in_options())
    if part == "userHandle" and not text:
        return
    credential["response"][part] = text
    assert verify(credential).status_code == 401


@pytest.mark.parametrize("text", GARBAGE)
@pytest.mark.parametrize("part", ["clientDataJSON", "attestationObject"])
def test_garbage_in_a_registration_is_a_400(client, part, text):
    credential = Authenticator().create(creation_options(client))
    credential["response"][part] = text
    answer = send(client, "post", "auth/passkeys/register/verify/", {"passkey": credential})
    assert answer.status_code == 400
