"""What an answer costs says nothing about whether an account exists.

The time of an answer is that of its work: password hashes, which take nearly all of it, and
statements. So the work is compared, which no other load on the machine changes.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import timedelta
from uuid import uuid4

import pytest
from authenticator import Authenticator
from conftest import PASSWORD, post_form, query_of, send
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from hosts_own import QuickPBKDF2
from rest_framework.test import APIClient

from myometrics_auth.account_links import invitation_url, notice_url, verification_url
from myometrics_auth.models import Invitation, TotpDevice
from myometrics_auth.passkeys.models import Passkey
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _counted_hashes(settings):
    settings.PASSWORD_HASHERS = ["hosts_own.QuickPBKDF2"]
    settings.MYOMETRICS_AUTH = {"FAILED_SIGN_IN_LIMIT": 10_000}


def work(call):
    """The work of a call: the iterations of each password hash, and each statement."""
    QuickPBKDF2.computed.clear()
    with CaptureQueriesContext(connection) as queries:
        call()
    return list(QuickPBKDF2.computed), [kind_of(query["sql"]) for query in queries]


def kind_of(statement):
    """A statement without its values and without names of savepoints."""
    return re.sub(
        r"'(?:[^']|'')*'|\"s\d+_x\d+\"|\b[0-9a-f-]{32,}\b|\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b",
        "?",
        statement,
    )


def login(email, password="wrong"):
    body = {"email": email, "password": password}

    def call():
        assert send(APIClient(), "post", "auth/login/", body).status_code == 401

    return call


def admin_login(email, password="wrong"):
    def call():
        form = {"username": email, "password": password}
        assert Client().post("/admin/login/", form).status_code == 200

    return call


def reset(email):
    def call():
        answer = send(APIClient(), "post", "auth/password-reset/", {"email": email})
        assert answer.status_code == 200

    return call


def verification(email):
    def call():
        answer = send(APIClient(), "post", "auth/verify-email/", {"email": email})
        assert answer.status_code == 200

    return call


@pytest.fixture
def existing(make_user):
    """Accounts of each sort, by the password that is tried on them."""
    return {
        "wrong": make_user(),
        PASSWORD: make_user(is_active=False),
        "any": make_user(password=None),
    }


def test_failed_sign_ins_do_the_same_work(existing):
    unknown = work(login("unknown@clinic.example"))
    assert unknown[0] == [QuickPBKDF2.iterations]
    for password, user in existing.items():
        assert work(login(user.email, password)) == unknown


def test_throttled_sign_in_does_the_same(make_user, settings):
    settings.MYOMETRICS_AUTH = {"FAILED_SIGN_IN_LIMIT": 1}
    throttled = make_user()
    login(throttled.email)()
    wrong_hashes, wrong_statements = work(login(throttled.email))
    right_hashes, right_statements = work(login(throttled.email, PASSWORD))
    assert right_hashes == wrong_hashes == [QuickPBKDF2.iterations]
    assert len(right_statements) == len(wrong_statements)


def test_failed_admin_logins_do_the_same_work(make_user):
    known, others = make_user(is_staff=True), make_user()
    inactive = make_user(is_active=False, is_staff=True)
    hashes, statements = work(admin_login("unknown@clinic.example"))
    assert hashes == [QuickPBKDF2.iterations]
    for email, password in (
        (known.email, "wrong"),
        (inactive.email, PASSWORD),
        (others.email, PASSWORD),
    ):
        found = work(admin_login(email, password))
        assert found[0] == hashes
        assert without_savepoints(found[1]) == without_savepoints(statements)


def without_savepoints(statements):
    return [statement for statement in statements if "SAVEPOINT" not in statement]


def test_resets_do_the_same_work_for_unknown_addresses(make_user):
    hashes, statements = work(reset("unknown@clinic.example"))
    assert (hashes, bool(statements)) == ([], True)
    assert work(reset(make_user().email)) == (hashes, statements)
    assert mail.outbox == [], "the mail is a task's, whatever the address"


def test_new_verification_links_do_the_same_work_for_every_address(make_user):
    hashes, statements = work(verification("unknown@clinic.example"))
    assert (hashes, bool(statements)) == ([], True)
    verified = make_user(verified_at=utc_now())
    for user in (make_user(self_registered=True), verified, make_user(is_active=False)):
        assert work(verification(user.email)) == (hashes, statements)
    assert mail.outbox == []


def test_uninvited_registrations_do_the_same_work(make_user, settings):
    settings.MYOMETRICS_AUTH = {"REGISTRATION": "invitation"}
    emails = ("unknown@clinic.example", make_user().email)
    body = {"password": PASSWORD, "firstName": "A", "lastName": "B", "invitation": "x"}

    def register(email):
        return lambda: send(APIClient(), "post", "auth/register/", {**body, "email": email})

    one, other = (work(register(email)) for email in emails)
    assert one == other


def test_unverified_account_costs_a_wrong_password_the_same(make_user, settings):
    settings.MYOMETRICS_AUTH = {"EMAIL_VERIFICATION": "required", "FAILED_SIGN_IN_LIMIT": 10_000}
    unverified = make_user(self_registered=True)
    assert work(login(unverified.email)) == work(login("unknown@clinic.example"))


DECOMPOSED = unicodedata.normalize("NFD", "fünf-graue-Möwen")


def test_failed_sign_ins_do_the_same_work_for_passwords_in_two_forms(make_user):
    """A password that is not normalized is checked in both forms, for unknown accounts too."""
    for sign_in in (login, admin_login):
        unknown = work(sign_in(f"{sign_in.__name__}@clinic.example", DECOMPOSED))
        assert unknown[0] == [QuickPBKDF2.iterations] * 2
        inactive = make_user(is_active=False, password=DECOMPOSED)
        for user in (make_user(), inactive, make_user(password=None)):
            found = work(sign_in(user.email, DECOMPOSED))
            assert found[0] == unknown[0]
            assert without_savepoints(found[1]) == without_savepoints(unknown[1])


@pytest.mark.parametrize("stored", [DECOMPOSED, unicodedata.normalize("NFC", DECOMPOSED)])
def test_throttled_password_in_two_forms_does_the_same(make_user, settings, stored):
    settings.MYOMETRICS_AUTH = {"FAILED_SIGN_IN_LIMIT": 1}
    throttled = make_user()
    get_user_model().objects.filter(pk=throttled.pk).update(password=make_password(stored))
    login(throttled.email)()
    wrong_hashes, wrong_statements = work(login(throttled.email, DECOMPOSED + "x"))
    right_hashes, right_statements = work(login(throttled.email, DECOMPOSED))
    assert right_hashes == wrong_hashes == [QuickPBKDF2.iterations] * 2
    assert len(right_statements) == len(wrong_statements)


def test_measurement_detects_a_backend_that_skips_the_hash(make_user, settings):
    settings.AUTHENTICATION_BACKENDS = ["hosts_own.HastyBackend"]
    assert work(login("unknown@clinic.example")) != work(login(make_user().email))


EMAIL = "unknown@clinic.example"


def passkey_of(user):
    key = Authenticator()
    Passkey.objects.create(
        user=user,
        name="Phone",
        credential_id=key.credential({})["id"],
        public_key=key.public_key,
        aaguid=key.aaguid,
        attestation="none",
        is_synced=False,
    )
    return key


class TestAccountsAndInvitations:
    """Endpoints that were added after the sign-in, for known, unknown and foreign input."""

    def works_of(self, calls, *, status=None):
        """The work of each call; all have the same response."""
        done, answers = [], []
        for call in calls:
            done.append(work(lambda call=call: answers.append(call())))
        assert len({(answer.status_code, bytes(answer.content)) for answer in answers}) == 1
        assert status in {None, answers[0].status_code}
        return done

    def registrations(self, emails, **fields):
        body = {"password": PASSWORD, "firstName": "A", "lastName": "B", **fields}
        return [
            lambda email=email: send(
                APIClient(), "post", "auth/register/", {**body, "email": email}
            )
            for email in emails
        ]

    @pytest.fixture
    def invitation(self, administrator):
        return Invitation.objects.create(
            email="invited@clinic.example",
            inviter=administrator,
            expires_at=utc_now() + timedelta(days=1),
        )

    def token(self, invitation):
        return query_of(invitation_url(invitation))["invitation"]

    def test_closed_registration_does_no_work(self, make_user, invitation, settings):
        settings.MYOMETRICS_AUTH = {"REGISTRATION": "closed"}
        emails = [make_user().email, "unknown@clinic.example", invitation.email]
        for fields in ({}, {"invitation": self.token(invitation)}, {"invitation": "x"}):
            done = self.works_of(self.registrations(emails, **fields), status=403)
            assert done == [([], [])] * 3

    @pytest.mark.parametrize("mode", ["open", "invitation"])
    def test_bad_invitations_look_no_address_up(self, make_user, invitation, settings, mode):
        settings.MYOMETRICS_AUTH = {"REGISTRATION": mode}
        emails = [make_user().email, "unknown@clinic.example", invitation.email]
        expired, revoked = self.token(invitation), self.token(Invitation(inviter_id=uuid4()))
        Invitation.objects.update(expires_at=utc_now())
        for token in ("x", expired, revoked):
            one, *others = self.works_of(self.registrations(emails, invitation=token), status=400)
            assert one[0] == []
            assert others == [one, one]

    def test_lost_invitations_do_the_same_work(self, invitation, settings):
        """The responses to an expired and a revoked link are the same."""
        settings.MYOMETRICS_AUTH = {"REGISTRATION": "invitation"}
        token, found = self.token(invitation), []
        now = utc_now()
        for loss in (
            lambda: Invitation.objects.update(expires_at=now),
            lambda: Invitation.objects.all().delete(),
        ):
            loss()
            found += self.works_of(self.registrations([EMAIL], invitation=token), status=400)
        assert found[0] == found[1]

    def test_invitation_reveals_nothing_about_other_addresses(
        self, make_user, invitation, settings
    ):
        settings.MYOMETRICS_AUTH = {"REGISTRATION": "invitation"}
        emails = [make_user().email, EMAIL, make_user(is_active=False).email]
        calls = self.registrations(emails, invitation=self.token(invitation))
        one, *others = self.works_of(calls, status=400)
        assert others == [one, one]

    def test_failed_sign_ins_where_verification_is_required(self, make_user, settings):
        settings.MYOMETRICS_AUTH = {
            "EMAIL_VERIFICATION": "required",
            "MFA_REQUIRED_ROLES": ["doctor"],
            "FAILED_SIGN_IN_LIMIT": 10_000,
        }
        verified = make_user(self_registered=True, verified_at=utc_now())
        users = [verified, make_user(self_registered=True), make_user(is_active=False)]
        with_app = make_user()
        TotpDevice.objects.create(user=with_app, secret="", confirmed_at=utc_now())
        unknown = work(login(EMAIL))
        for user in [*users, with_app]:
            assert work(login(user.email)) == unknown

    def test_passkey_options_are_the_same_for_all_users(self, make_user):
        make_user()

        def options():
            answer = send(APIClient(), "post", "auth/login/passkey/options/", {})
            assert answer.status_code == 200
            shown = answer.json()["publicKey"]
            shown.pop("challenge")
            return shown

        shown = []
        before = work(lambda: shown.append(options()))
        user = make_user()
        passkey_of(user)
        assert work(lambda: shown.append(options())) == before
        assert shown[0] == shown[1]
        assert shown[0]["allowCredentials"] == []

    def test_refused_passkeys_reveal_nothing_about_accounts(self, make_user):
        """The id of a passkey is random; without its key no account does more than others."""
        active, inactive = make_user(), make_user(is_active=False)
        keys = [passkey_of(user) for user in (active, inactive)]

        def sign_in(key):
            options = send(APIClient(), "post", "auth/login/passkey/options/", {}).json()
            key.key = Authenticator().key  # the attacker doesn't have the owner's
            body = {"passkey": key.get(options["publicKey"])}
            return lambda: send(APIClient(), "post", "auth/login/passkey/verify/", body)

        unknown, of_active, of_inactive = self.works_of(
            [sign_in(key) for key in (Authenticator(), *keys)], status=401
        )
        assert unknown[0] == of_active[0] == of_inactive[0] == []

    def test_pages_of_wrong_links_do_the_same_work(self, make_user):
        """A deleted user's link and one that was never signed: no account is looked up twice."""
        user = make_user()
        links = {
            "auth/secure-account/": notice_url(user, "notice"),
            "auth/verify-email/confirm/": verification_url(user),
        }
        verified = make_user(verified_at=utc_now())
        get_user_model().objects.filter(pk=user.pk).delete()
        for path, link in links.items():
            calls = [lambda link=link: post_form(APIClient(), link[link.index("/api/") :])]
            if "verify" in path:
                other = verification_url(verified)
                calls.append(
                    lambda other=other: post_form(APIClient(), other[other.index("/api/") :])
                )
            one, *others = self.works_of(calls, status=404)
            assert one[0] == []
            assert all(other == one for other in others)
