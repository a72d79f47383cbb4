"""Attacks with a session: every endpoint of the caller and of administrators without the right."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from authenticator import Authenticator
from conftest import NEW_PASSWORD, PASSWORD, post_form, refresh_by, send
from django.contrib.auth import get_user_model
from django.test import Client, RequestFactory
from django.utils.http import urlencode
from rest_framework.test import APIClient
from specified import ERROR_KEYS
from test_attacks import INVITED, KINDS, NEW, STRICT, World, attack, snapshot

from myometrics_auth.account_links import confirmation_url, undo_url, verification_url
from myometrics_auth.conf import REAUTHENTICATED_OPERATIONS
from myometrics_auth.errors import InvalidCredentials
from myometrics_auth.models import Invitation, Session, TotpDevice
from myometrics_auth.passkeys.models import Passkey, PasskeyChallenge
from myometrics_auth.reset_links import reset_link
from myometrics_auth.services.sessions import session_refresh, session_start
from myometrics_auth.tokens import mfa_token, refresh_token
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(clock, make_user, settings):
    settings.MYOMETRICS_AUTH = {**STRICT, "ACCESS_TOKEN_LIFETIME": timedelta(days=6)}
    return World(make_user)


PROOF = {"password": PASSWORD, "code": "{code}"}
OWN = {
    "profile": ("get", "auth/user/", {}),
    "change of the profile": ("put", "auth/user/", {"firstName": "Eve", "lastName": "Eve"}),
    "change of the password": (
        *("post", "auth/change-password/"),
        {"old_password": PASSWORD, "new_password": NEW_PASSWORD},
    ),
    "change of the address": (
        *("post", "auth/email/"),
        {"email": "eve@clinic.example", "password": PASSWORD},
    ),
    "reauthentication": ("post", "auth/reauthenticate/", {"password": PASSWORD}),
    "sessions": ("get", "auth/sessions/", {}),
    "end of other sessions": ("delete", "auth/sessions/", {}),
    "end of a session": ("delete", "auth/sessions/{session}/", {}),
    "state of the second factor": ("get", "auth/mfa/", {}),
    "enrolment": ("post", "auth/mfa/enrol/", {"password": PASSWORD}),
    "confirmation": ("post", "auth/mfa/confirm/", {"code": "{code}"}),
    "disabling": ("post", "auth/mfa/disable/", PROOF),
    "recovery codes": ("post", "auth/mfa/recovery-codes/", PROOF),
    "passkeys": ("get", "auth/passkeys/", {}),
    "renaming a passkey": ("patch", "auth/passkeys/{passkey}/", {"name": "Eve's"}),
    "removing a passkey": ("delete", "auth/passkeys/{passkey}/", {}),
    "options of a passkey": (
        *("post", "auth/passkeys/register/options/"),
        {"password": PASSWORD},
    ),
    "registration of a passkey": ("post", "auth/passkeys/register/verify/", {"passkey": "{new}"}),
    "export": ("get", "users/me/export/", {}),
    "export as JSON": ("get", "users/me/export/?format=json", {}),
    "deletion": ("delete", "users/me/", {}),
    "sign-out": ("post", "auth/logout/", {"refresh": "{refresh}"}),
}
"""What the owner of a session can do."""
OF_ADMINISTRATORS = {
    "users": ("get", "users/", {}),
    "user": ("get", "users/{admin}/", {}),
    "promotion": ("put", "users/{user}/", {"role": "admin"}),
    "demotion": ("put", "users/{admin}/", {"role": "technician"}),
    "deactivation": ("put", "users/{admin}/", {"isActive": False}),
    "deletion of a user": ("delete", "users/{admin}/", {}),
    "invitations": ("get", "users/invitations/", {}),
    "invitation": ("post", "users/invitations/", {"email": "eve@evil.example", "role": "admin"}),
    "revocation": ("delete", "users/invitations/{invitation}/", {}),
    "new invitation mail": ("post", "users/invitations/{invitation}/resend/", {}),
}
OPEN_WITHOUT_SECOND_FACTOR = {
    *("profile", "change of the profile", "state of the second factor", "enrolment"),
    *("confirmation", "passkeys", "options of a passkey", "registration of a passkey"),
    "sign-out",
}


def perform(client, world, endpoint):
    """Send the request of ``endpoint`` with what its owner would send."""
    method, path, body = {**OWN, **OF_ADMINISTRATORS}[endpoint]
    other = Session.objects.exclude(pk=world.session.pk).values_list("pk", flat=True).first()
    values = {
        "code": world.code(),
        "refresh": refresh_token(world.session),
        "session": other or uuid4(),
        "passkey": Passkey.objects.values_list("pk", flat=True).first() or uuid4(),
        "admin": world.admin.pk,
        "user": world.pk,
        "invitation": world.invitation.pk,
    }
    filled = {
        name: value.format(**values) if isinstance(value, str) and value != "{new}" else value
        for name, value in body.items()
    }
    if filled.get("passkey") == "{new}":
        options = {"challenge": world.new_challenge, "user": {"id": ""}}
        filled["passkey"] = Authenticator().create(options)
    return send(client, method, path.format(**values), filled)


def check(answer, status, code=None):
    assert answer.status_code == status, answer.content
    assert set(answer.json()) == ERROR_KEYS
    assert code is None or answer.json()["code"] == code


@pytest.fixture
def client(world):
    """The client of the doctor, whose other session is on another device."""
    world.start_session()
    world.new_challenge = KINDS["registration challenge"](world)
    return world.client()


def end(world, clock, settings):
    Session.objects.filter(pk=world.session.pk).end()


def leave_idle(world, clock, settings):
    clock.shift(timedelta(hours=1))


def expire(world, clock, settings):
    settings.MYOMETRICS_AUTH = {**settings.MYOMETRICS_AUTH, "SESSION_IDLE_TIMEOUT": None}
    Session.objects.update(expires_at=utc_now())


def deactivate(world, clock, settings):
    get_user_model().objects.filter(pk=world.pk).update(is_active=False)


def delete(world, clock, settings):
    get_user_model().objects.filter(pk=world.pk).delete()


def reuse_the_refresh_token(world, clock, settings):
    stolen = refresh_token(world.session)
    session_refresh(token=stolen, request=None)
    clock.shift(11)
    assert refresh_by(APIClient(), stolen).status_code == 401


ENDINGS = [end, leave_idle, expire, deactivate, delete, reuse_the_refresh_token]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
@pytest.mark.parametrize("endpoint", [*OWN, *OF_ADMINISTRATORS])
def test_lost_session_opens_nothing(world, client, clock, settings, endpoint, ending):
    ending(world, clock, settings)
    if endpoint == "registration of a passkey" and ending is not delete:
        world.new_challenge = KINDS["registration challenge"](world)
    before = snapshot()
    check(perform(client, world, endpoint), 401, "token_not_valid")
    assert snapshot() == before


@pytest.mark.parametrize("endpoint", OWN)
def test_only_enrolment_is_open_without_second_factor(world, client, endpoint):
    Session.objects.filter(pk=world.session.pk).update(second_factor=False)
    before = snapshot()
    answer = perform(client, world, endpoint)
    if endpoint in OPEN_WITHOUT_SECOND_FACTOR:
        assert answer.status_code != 403
        return
    check(answer, 403, "second_factor_required")
    assert snapshot() == before


def test_second_factor_cannot_be_replaced_without_the_old_one(world, client):
    """A session without the factor neither enrols another app nor adds a passkey beside it."""
    Session.objects.filter(pk=world.session.pk).update(second_factor=False)
    before = snapshot()
    check(perform(client, world, "enrolment"), 409, "second_factor_in_use")
    check(perform(client, world, "confirmation"), 409, "nothing_to_confirm")
    assert snapshot() == before


def test_sign_in_that_began_before_the_enrolment_is_refused(world, make_user):
    """Another device sets a second factor up after the password step found none."""
    user = make_user("eve@clinic.example")
    TotpDevice.objects.create(user=user, secret="", confirmed_at=utc_now())
    before = snapshot()
    with pytest.raises(InvalidCredentials):
        session_start(user=user, request=RequestFactory().post("/"), password=PASSWORD)
    assert snapshot() == before


@pytest.mark.parametrize("role", ["doctor", "technician"])
@pytest.mark.parametrize("endpoint", OF_ADMINISTRATORS)
def test_administration_is_closed_to_other_roles(world, client, endpoint, role):
    get_user_model().objects.filter(pk=world.pk).update(role=role)
    before = snapshot()
    check(perform(client, world, endpoint), 403)
    assert snapshot() == before


@pytest.mark.parametrize("endpoint", OF_ADMINISTRATORS)
def test_demoted_administrator_loses_rights_at_once(world, client, endpoint):
    get_user_model().objects.filter(pk=world.pk).update(role="admin")
    assert client.get("/api/users/").status_code == 200
    get_user_model().objects.filter(pk=world.pk).update(role="doctor")
    before = snapshot()
    check(perform(client, world, endpoint), 403)
    assert snapshot() == before


@pytest.mark.parametrize(
    "field", ["role", "email", "isActive", "is_superuser", "verified_at", "id"]
)
@pytest.mark.parametrize("method", ["put", "patch"])
def test_profile_gives_no_rights(world, client, method, field):
    values = {"isActive": False, "role": "admin", "email": NEW, "id": str(world.admin.pk)}
    before = snapshot()
    body = {"firstName": "Jane", "lastName": "Smith", field: values.get(field, True)}
    assert send(client, method, "auth/user/", body).status_code == 200
    assert snapshot() == before


def test_registration_gives_only_the_role_of_the_invitation(world):
    token = KINDS["invitation"](world)
    body = {"email": INVITED, "password": PASSWORD, "firstName": "A", "lastName": "B"}
    extra = {"role": "admin", "is_superuser": True, "is_staff": True, "isActive": True}
    answer = send(APIClient(), "post", "auth/register/", {**body, **extra, "invitation": token})
    assert answer.status_code == 201
    user = get_user_model().objects.get(email=INVITED)
    assert (user.role, user.is_superuser, user.is_staff) == ("doctor", False, False)


SENSITIVE = {
    "change of the address": "change_email",
    "disabling": "disable_mfa",
    "recovery codes": "disable_mfa",
    "removing a passkey": "disable_mfa",
    "export": "export",
    "export as JSON": "export",
    "deletion": "delete_account",
}


class TestRecentSignIn:
    """No way to get a session or a token bypasses reauthentication."""

    @pytest.fixture(autouse=True)
    def _required(self, world, settings):
        settings.MYOMETRICS_AUTH = {
            **settings.MYOMETRICS_AUTH,
            "REAUTHENTICATE_FOR": list(REAUTHENTICATED_OPERATIONS),
        }

    @pytest.mark.parametrize("way", ["old", "refreshed", "another session's", "failed", "other"])
    @pytest.mark.parametrize("endpoint", SENSITIVE)
    def test_old_sign_in_is_not_enough(self, world, client, clock, make_user, endpoint, way):
        clock.shift(timedelta(minutes=10))
        if way == "refreshed":
            body = {"refresh": refresh_token(world.session)}
            access = send(APIClient(), "post", "auth/token/refresh/", body).json()["access"]
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {access}")
        elif way == "another session's":
            fresh = world.client(world.start_session())
            proof = {"password": PASSWORD}
            assert send(fresh, "post", "auth/reauthenticate/", proof).status_code == 200
        elif way == "failed":
            for proof in ({"password": "wrong"}, {"code": "000000"}, {}, {"password": ""}):
                check(send(client, "post", "auth/reauthenticate/", proof), 400)
        elif way == "other":  # the proof of another user
            get_user_model().objects.filter(pk=world.pk).update(email="doctor@clinic.example")
            make_user("eve@clinic.example", password=NEW_PASSWORD)
            check(send(client, "post", "auth/reauthenticate/", {"password": NEW_PASSWORD}), 400)
        before = snapshot()
        check(perform(client, world, endpoint), 403, "reauthentication_required")
        assert snapshot() == before

    def test_reauthentication_by_two_proofs_of_which_one_is_wrong(self, world, client):
        before = snapshot()
        for proof in (
            {"password": PASSWORD, "code": "000000"},
            {"password": "wrong", "code": world.code()},
        ):
            check(send(client, "post", "auth/reauthenticate/", proof), 400)
        assert snapshot() == before


class TestUnverified:
    """No way to sign in bypasses a required verification."""

    @pytest.fixture
    def unverified(self, world, clock):
        get_user_model().objects.filter(pk=world.pk).update(self_registered=True)
        world.user.refresh_from_db()
        return world

    def code_step(self, world):
        body = {"mfa_token": mfa_token(world.user), "code": world.code()}
        return send(APIClient(), "post", "auth/login/mfa/", body)

    def recovery_code_step(self, world):
        body = {"mfa_token": mfa_token(world.user), "code": world.recovery_codes[0]}
        return send(APIClient(), "post", "auth/login/mfa/", body)

    def password_step(self, world):
        body = {"email": world.user.email, "password": PASSWORD}
        return send(APIClient(), "post", "auth/login/", body)

    def passkey_step(self, world):
        return attack(world, "passkey step", mfa_token(world.user))

    def passkey(self, world):
        return attack(world, "passkey sign-in", KINDS["sign-in challenge"](world))

    @pytest.mark.parametrize(
        "way", ["password_step", "code_step", "recovery_code_step", "passkey_step", "passkey"]
    )
    def test_sign_in_is_refused(self, unverified, published, way):
        answer = getattr(self, way)(unverified)
        check(answer, 403, "email_not_verified")
        assert Session.objects.count() == 1
        assert [event.action for event in published] == ["login_failed"]

    def test_refused_passkey_response_is_used_up(self, unverified):
        """An attacker can't send it again once the address is verified."""
        challenge = KINDS["sign-in challenge"](unverified)
        credential = unverified.assertion(challenge)
        body = {"passkey": credential}
        check(send(APIClient(), "post", "auth/login/passkey/verify/", body), 403)
        assert not PasskeyChallenge.objects.exists()
        get_user_model().objects.filter(pk=unverified.pk).update(verified_at=utc_now())
        check(send(APIClient(), "post", "auth/login/passkey/verify/", body), 401)

    def test_refused_code_is_used_up(self, unverified):
        check(self.code_step(unverified), 403)
        get_user_model().objects.filter(pk=unverified.pk).update(verified_at=utc_now())
        check(self.code_step(unverified), 401)

    @pytest.mark.parametrize("has_factor", [True, False])
    def test_admin_site_is_closed(self, unverified, has_factor):
        get_user_model().objects.filter(pk=unverified.pk).update(role="admin", is_staff=True)
        if not has_factor:
            TotpDevice.objects.all().delete()
            Passkey.objects.all().delete()
        browser = Client()
        form = {"username": unverified.user.email, "password": PASSWORD}
        answer = browser.post("/admin/login/?next=/admin/", form)
        assert answer.status_code == 200
        assert browser.get("/admin/").status_code == 302
        assert Session.objects.count() == 1

    def test_reset_by_mail_admits_only_the_owner_of_the_mailbox(self, unverified):
        """The reset verifies, and removes what the registering user has set up."""
        stolen = unverified.client()
        attack(unverified, "reset", KINDS["reset"](unverified))
        assert stolen.get("/api/auth/user/").status_code == 401
        check(self.passkey(unverified), 401)
        assert not TotpDevice.objects.exists()


class TestInvitation:
    @pytest.mark.parametrize("fate", ["demoted", "deactivated", "deleted", "revoked", "resent"])
    def test_of_a_lost_inviter_or_revoked_is_refused(self, world, fate):
        token = KINDS["invitation"](world)
        inviter = get_user_model().objects.filter(pk=world.admin.pk)
        if fate == "demoted":
            inviter.update(role="doctor")
        elif fate == "deactivated":
            inviter.update(is_active=False)
        elif fate == "deleted":
            inviter.delete()
        elif fate == "revoked":
            Invitation.objects.all().delete()
        else:
            Invitation.objects.update(nonce="another")
        before = snapshot()
        check(attack(world, "registration", token), 400)
        assert snapshot() == before

    def test_role_raised_in_the_token_is_refused(self, world):
        """Role, clinic and address are in the row, which the client can't write."""
        token = KINDS["invitation"](world)
        payload, _colon, signature = token.partition(":")
        before = snapshot()
        for forged in (f"{payload}x:{signature}", f":{signature}", payload, f"{payload}::"):
            check(attack(world, "registration", forged), 400)
        assert snapshot() == before


def test_undo_link_beats_a_taken_over_account(world, clock):
    """The thief changes the address; the owner's undo ends whatever the thief has."""
    clock.shift(60)
    confirmation = confirmation_url(world.pending)
    path = confirmation.partition("clinic.example")[2]
    assert post_form(APIClient(), path, password=PASSWORD).status_code == 200
    world.pending.refresh_from_db()
    thief = world.client()
    undo = undo_url(world.pending).partition("clinic.example")[2]
    assert post_form(APIClient(), undo).status_code == 200
    assert thief.get("/api/auth/user/").status_code == 401
    body = {"email": world.user.email, "password": PASSWORD}
    check(send(APIClient(), "post", "auth/login/", body), 401)
    assert post_form(APIClient(), undo).status_code == 404
    assert post_form(APIClient(), path, password=PASSWORD).status_code == 404


@pytest.mark.parametrize(
    "place", ["verification", "email change", "undo", "notice", "reset", "registration"]
)
def test_page_opened_by_a_scanner_changes_nothing(world, place):
    """Mail programs and scanners follow links with GET and HEAD."""
    paths = {
        "verification": verification_url(world.user),
        "email change": confirmation_url(world.pending),
        "undo": undo_url(world.confirmed),
        "notice": f"/api/auth/secure-account/?{urlencode({'token': KINDS['notice'](world)})}",
        "reset": f"/api/auth/password-reset/confirm/?{reset_link(world.user).partition('?')[2]}",
        "registration": f"/api/auth/register/?invitation={KINDS['invitation'](world)}",
    }
    path = "/api/" + paths[place].partition("/api/")[2]
    before = snapshot()
    for method in ("get", "head"):
        assert getattr(APIClient(), method)(path).status_code in {200, 405}
    assert snapshot() == before


def test_secure_account_does_not_reveal_accounts(world):
    """The page of a wrong link is the same as that of a link of a deleted user."""
    token = KINDS["notice"](world)
    get_user_model().objects.filter(pk=world.pk).delete()
    gone, wrong = (attack(world, "notice", one) for one in (token, "wrong"))
    assert (gone.status_code, gone.content) == (wrong.status_code, wrong.content)
