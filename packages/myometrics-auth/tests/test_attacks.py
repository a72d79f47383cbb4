"""Attacks with tokens: each kind at each place that takes one, and each endpoint without the right.

An attack gets the response of the contract, the same as for any other wrong token, and changes
nothing.
"""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote, urlencode

import pyotp
import pytest
from authenticator import Authenticator
from conftest import NEW_PASSWORD, PASSWORD, post_form, query_of, refresh_by, send
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient
from specified import ERROR_KEYS
from webauthn.helpers import bytes_to_base64url

from myometrics_auth.account_links import (
    confirmation_url,
    invitation_url,
    notice_url,
    undo_url,
    verification_url,
)
from myometrics_auth.encryption import encrypt_secret
from myometrics_auth.errors import InvalidToken
from myometrics_auth.models import (
    EmailChange,
    Invitation,
    KnownDevice,
    RecoveryCode,
    Session,
    TotpDevice,
    UsedToken,
)
from myometrics_auth.passkeys.models import Passkey, Purpose
from myometrics_auth.passkeys.services import _challenge_create
from myometrics_auth.passkeys.webauthn_responses import user_handle
from myometrics_auth.reset_links import reset_link
from myometrics_auth.services.second_factor import recovery_codes_create
from myometrics_auth.tokens import MFA, access_token, mfa_token, read_token, refresh_token
from myometrics_core.jobs import Job
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
OLD, NEW, INVITED = "old@clinic.example", "new@clinic.example", "invited@clinic.example"
STRICT = {
    "REGISTRATION": "invitation",
    "EMAIL_VERIFICATION": "required",
    "ROTATE_REFRESH_TOKENS": True,
    "SESSIONS_PER_USER": 5,
    "SESSION_IDLE_TIMEOUT": timedelta(hours=1),
    "MFA_REQUIRED_ROLES": ["admin", "doctor"],
}
TABLES = (
    *(get_user_model(), Session, TotpDevice, RecoveryCode, UsedToken, EmailChange, Invitation),
    *(KnownDevice, Passkey, Job),
)
CLOCKS = {"last_used_at", "last_login"}


def snapshot():
    """Every row that an attack could change; counted failures and challenges are no harm."""
    return {
        model.__name__: sorted(
            str({name: value for name, value in row.items() if name not in CLOCKS})
            for row in model.objects.values()
        )
        for model in TABLES
    }


class World:
    """A doctor who has everything that a token can be about, and an administrator."""

    def __init__(self, make_user):
        self.user = make_user("doctor@clinic.example", verified_at=None, self_registered=False)
        self.admin = make_user("admin@clinic.example", role="admin")
        self.pk = self.user.pk
        secret = encrypt_secret(SECRET, owner=self.pk)
        TotpDevice.objects.create(user=self.user, secret=secret, confirmed_at=utc_now())
        self.recovery_codes = recovery_codes_create(user=self.user)
        self.session = self.start_session()
        self.key = Authenticator(user_handle=user_handle(self.user))
        Passkey.objects.create(
            user=self.user,
            name="Phone",
            credential_id=self.key.credential({})["id"],
            public_key=self.key.public_key,
            aaguid=self.key.aaguid,
            attestation="none",
            is_synced=False,
        )
        self.pending = EmailChange.objects.create(
            user=self.user, old_email=self.user.email, new_email=NEW
        )
        self.confirmed = EmailChange.objects.create(
            user=self.user,
            old_email=OLD,
            old_canonical=OLD,
            old_verified_at=utc_now(),
            new_email=self.user.email,
            confirmed_at=utc_now(),
        )
        self.invitation = Invitation.objects.create(
            email=INVITED, inviter=self.admin, expires_at=utc_now() + timedelta(days=7)
        )
        self.mfa_token = mfa_token(self.user)

    def start_session(self):
        return Session.objects.create(
            user=self.user, second_factor=True, expires_at=utc_now() + timedelta(days=7)
        )

    def client(self, session=None):
        client = APIClient()
        token = access_token(session or self.session)
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        return client

    def code(self):
        return pyotp.TOTP(SECRET).at(utc_now())

    def challenge(self, purpose, *, user=None, bound_to=""):
        return encoded(_challenge_create(purpose, user=user, bound_to=bound_to))

    def assertion(self, challenge, **changes):
        return self.key.get({"challenge": challenge}, **changes)


def encoded(challenge):
    return bytes_to_base64url(challenge)


def of_query(name, link):
    return query_of(link)[name]


def second_factor_challenge(world, token):
    """The challenge of the sign-in with an mfa token; without one, of another sign-in."""
    try:
        bound_to = read_token(token, MFA).token_id
    except InvalidToken:
        bound_to = read_token(world.mfa_token, MFA).token_id
    return world.challenge(Purpose.SECOND_FACTOR, user=world.user, bound_to=bound_to)


KINDS = {
    "access": lambda world: access_token(world.session),
    "refresh": lambda world: refresh_token(world.session),
    "mfa": lambda world: mfa_token(world.user),
    "reset": lambda world: of_query("token", reset_link(world.user)),
    "verification": lambda world: of_query("token", verification_url(world.user)),
    "email change": lambda world: of_query("token", confirmation_url(world.pending)),
    "undo": lambda world: of_query("token", undo_url(world.confirmed)),
    "invitation": lambda world: of_query("invitation", invitation_url(world.invitation)),
    "notice": lambda world: of_query("token", notice_url(world.user, "notice")),
    "sign-in challenge": lambda world: world.challenge(Purpose.SIGN_IN),
    "second-factor challenge": lambda world: second_factor_challenge(world, world.mfa_token),
    "registration challenge": lambda world: world.challenge(
        Purpose.REGISTER, user=world.user, bound_to=str(world.session.pk)
    ),
}
"""Kind → a valid token of it."""


def posted(path, **body):
    return send(APIClient(), "post", path, body)


def page(path, token):
    encoding = {"errors": "surrogatepass"}
    return post_form(APIClient(), f"/api/{path}?{urlencode({'token': token}, **encoding)}")


def as_bearer(world, token):
    return APIClient().get("/api/auth/user/", HTTP_AUTHORIZATION=f"Bearer {token}")


def as_bearer_at_logout(world, token):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return send(client, "post", "auth/logout/", {"refresh": refresh_token(world.session)})


def at_logout(world, token):
    return send(world.client(), "post", "auth/logout/", {"refresh": token})


def at_reset(world, token):
    uid = of_query("uid", reset_link(world.user))
    return posted("auth/password-reset/confirm/", uid=uid, token=token, new_password=NEW_PASSWORD)


def at_registration(world, token):
    names = {"firstName": "A", "lastName": "B"}
    return posted("auth/register/", email=INVITED, password=PASSWORD, invitation=token, **names)


def at_passkey_second_step(world, token):
    world.mfa_token = mfa_token(world.user)
    has_user = get_user_model().objects.filter(pk=world.pk).exists()
    challenge = second_factor_challenge(world, token) if has_user else "gone"
    passkey = world.assertion(challenge)
    return posted("auth/login/mfa/", mfa_token=token, passkey=passkey)


def challenge_at_second_step(world, token):
    return posted("auth/login/mfa/", mfa_token=world.mfa_token, passkey=world.assertion(token))


def challenge_at_registration(world, token):
    new = Authenticator()
    options = {"challenge": token, "user": {"id": encoded(str(world.pk).encode())}}
    body = {"passkey": new.create(options)}
    return send(world.client(), "post", "auth/passkeys/register/verify/", body)


def challenge_at_reauthentication(world, token):
    body = {"passkey": world.assertion(token)}
    return send(world.client(), "post", "auth/reauthenticate/", body)


PLACES = {
    "bearer": (as_bearer, 401, "access"),
    "bearer at logout": (as_bearer_at_logout, 401, "access"),
    "refresh": (lambda _, token: refresh_by(APIClient(), token), 401, "refresh"),
    "logout": (at_logout, 400, "refresh"),
    "code step": (
        lambda world, token: posted("auth/login/mfa/", mfa_token=token, code=world.code()),
        *(401, "mfa"),
    ),
    "passkey step": (at_passkey_second_step, 401, "mfa"),
    "passkey options": (
        lambda _, token: posted("auth/login/passkey/options/", mfa_token=token),
        *(401, "mfa"),
    ),
    "reset": (at_reset, 400, "reset"),
    "verification": (
        lambda _, token: page("auth/verify-email/confirm/", token),
        *(404, "verification"),
    ),
    "email change": (
        lambda _, token: post_form(
            APIClient(),
            f"/api/auth/email/confirm/?{urlencode({'token': token}, errors='surrogatepass')}",
            password=PASSWORD,
        ),
        *(404, "email change"),
    ),
    "undo": (lambda _, token: page("auth/email/undo/", token), 404, "undo"),
    "notice": (lambda _, token: page("auth/secure-account/", token), 404, "notice"),
    "registration": (at_registration, 400, "invitation"),
    "passkey sign-in": (
        lambda world, token: posted("auth/login/passkey/verify/", passkey=world.assertion(token)),
        *(401, "sign-in challenge"),
    ),
    "passkey reauthentication": (challenge_at_reauthentication, 400, "sign-in challenge"),
    "passkey second step": (challenge_at_second_step, 401, "second-factor challenge"),
    "passkey registration": (challenge_at_registration, 400, "registration challenge"),
}
"""Place → what sends a token there, the status for a wrong one, and the kind that belongs there."""

OWN = [(place, kind) for place, (_send, _status, kind) in PLACES.items()]
SWAPPED = [(place, kind) for place, own in OWN for kind in KINDS if kind != own]


@pytest.fixture
def world(clock, make_user, settings):
    settings.MYOMETRICS_AUTH = STRICT
    return World(make_user)


def attack(world, place, token):
    return PLACES[place][0](world, token)


def refused(answer, place):
    """Check the response to a wrong token at ``place``."""
    status = PLACES[place][1]
    assert answer.status_code == status, answer.content
    if status == 404:
        assert answer["Content-Type"].startswith("text/html")
    else:
        assert set(answer.json()) == ERROR_KEYS


@pytest.mark.parametrize(("place", "kind"), OWN)
def test_token_works_at_its_place(world, place, kind):
    """Otherwise the refusals below would prove nothing."""
    assert attack(world, place, KINDS[kind](world)).status_code in {200, 201, 204}


@pytest.mark.parametrize(("place", "kind"), SWAPPED)
def test_token_of_another_kind_is_like_any_wrong_one(world, place, kind):
    token = KINDS[kind](world)
    wrong = ("d3Jvbmc" * len(token))[: len(token)]
    before = snapshot()
    answer = attack(world, place, token)
    refused(answer, place)
    assert answer.content == attack(world, place, wrong).content
    assert snapshot() == before


@pytest.mark.parametrize(("place", "kind"), OWN)
def test_token_signed_with_another_key_is_refused(world, settings, place, kind):
    own_key = settings.SECRET_KEY
    settings.SECRET_KEY = "another-site" * 5
    token = KINDS[kind](world) if "challenge" not in kind else encoded(b"another" * 5)
    settings.SECRET_KEY = own_key
    before = snapshot()
    refused(attack(world, place, token), place)
    assert snapshot() == before


EXPIRY = {
    "access": timedelta(minutes=15),
    "refresh": timedelta(days=7),
    "mfa": timedelta(minutes=5),
    "reset": timedelta(days=3, seconds=1),
    "verification": timedelta(days=3, seconds=1),
    "email change": timedelta(days=3, seconds=1),
    "undo": timedelta(days=7, seconds=1),
    "invitation": timedelta(days=7),
    "notice": timedelta(days=7, seconds=1),
    "sign-in challenge": timedelta(minutes=5),
    "second-factor challenge": timedelta(minutes=5),
    "registration challenge": timedelta(minutes=5),
}
EXPIRING = [(place, kind) for place, kind in OWN if place != "bearer at logout"]
"""Logging out with an expired access token is possible."""


@pytest.mark.parametrize(("place", "kind"), EXPIRING)
def test_expired_token_is_refused(world, clock, place, kind):
    token = KINDS[kind](world)
    clock.shift(EXPIRY[kind])
    if place == "passkey second step":
        world.mfa_token = mfa_token(world.user)
    elif place == "logout":
        world.session = world.start_session()
    before = snapshot()
    refused(attack(world, place, token), place)
    assert snapshot() == before


ONCE = [
    *("refresh", "logout", "code step", "passkey step", "reset", "verification", "email change"),
    *("undo", "registration", "passkey sign-in", "passkey reauthentication"),
    *("passkey second step", "passkey registration"),
]


@pytest.mark.parametrize("place", ONCE)
def test_used_token_is_refused(world, clock, place):
    token = KINDS[PLACES[place][2]](world)
    assert attack(world, place, token).status_code in {200, 201}
    clock.shift(61)  # a new code; no retry of a refresh
    if place == "logout":
        world.session = world.start_session()
    elif place == "passkey second step":
        world.mfa_token = mfa_token(world.user)
    before = snapshot()
    refused(attack(world, place, token), place)
    after = snapshot()
    if place == "refresh":  # the token was stolen: its session ends, and the user is notified
        assert after.pop("Session") != before.pop("Session")
        assert len(after.pop("Job")) == len(before.pop("Job")) + 1
    assert after == before


def test_used_mfa_token_gets_no_passkey_options(world):
    token = mfa_token(world.user)
    assert attack(world, "code step", token).status_code == 200
    refused(attack(world, "passkey options", token), "passkey options")


def test_used_notice_link_changes_nothing(world):
    token = KINDS["notice"](world)
    attack(world, "notice", token)
    world.start_session()
    before = snapshot()
    assert attack(world, "notice", token).status_code == 200
    assert snapshot() == before


OF_THE_USER = [(place, kind) for place, kind in OWN if kind != "invitation"]


@pytest.mark.parametrize("fate", ["deactivated", "deleted"])
@pytest.mark.parametrize(("place", "kind"), OF_THE_USER)
def test_token_of_a_lost_account_is_refused(world, place, kind, fate):
    token, users = KINDS[kind](world), get_user_model().objects.filter(pk=world.pk)
    if fate == "deleted":
        users.delete()
    else:
        users.update(is_active=False)
    before = snapshot()
    answer = attack(world, place, token)
    if (place, fate) == ("notice", "deactivated"):  # ends what is left
        assert answer.status_code == 200
        return
    needs_client = place in {"logout", "passkey registration", "passkey reauthentication"}
    assert answer.status_code == (401 if needs_client else PLACES[place][1])
    assert snapshot() == before


def changed(token):
    """The token with another character in its signature."""
    middle = len(token) - 12
    return token[:middle] + ("a" if token[middle] != "a" else "b") + token[middle + 1 :]


FORMS = {
    "cut": lambda token: token[:-6],
    "changed": changed,
    "doubled": lambda token: token + token,
    "NUL": lambda token: token + "\0",
    "surrogate": lambda token: token + "\ud800",
    "huge": lambda token: token * 200,
    "quoted": lambda token: quote(f"{token}%"),
    "other case": str.swapcase,
    "other alphabet": lambda token: token.translate({ord("a"): "а", ord("e"): "е"}) + "е",
    "empty": lambda token: "",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("place", "kind"), OWN)
def test_malformed_token_is_refused(world, place, kind, form):
    token = FORMS[form](KINDS[kind](world))
    before = snapshot()
    answer = attack(world, place, token)
    assert answer.status_code in {400, 401, 404, 413}, answer.content
    assert snapshot() == before


@pytest.mark.parametrize("value", [None, 1, True, [], {}, ["token"], {"token": "x"}, [[[]]] * 50])
@pytest.mark.parametrize(
    "place",
    ["refresh", "logout", "code step", "passkey options", "reset", "registration"],
)
def test_token_that_is_no_text_is_refused(world, place, value):
    before = snapshot()
    answer = attack(world, place, value)
    assert answer.status_code == 400
    assert set(answer.json()) == ERROR_KEYS
    assert snapshot() == before


class TestOthers:
    """Valid tokens of other users, and ids of others."""

    @pytest.fixture
    def other(self, world, make_user):
        user = make_user("other@clinic.example")
        session = Session.objects.create(
            user=user, second_factor=True, expires_at=utc_now() + timedelta(days=7)
        )
        return world.client(session)

    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("post", "auth/logout/", lambda w: {"refresh": refresh_token(w.session)}, 400),
            ("delete", "auth/sessions/{session}/", lambda w: {}, 404),
            ("patch", "auth/passkeys/{passkey}/", lambda w: {"name": "x"}, 404),
            ("delete", "auth/passkeys/{passkey}/", lambda w: {}, 404),
            ("post", "auth/reauthenticate/", lambda w: {"code": w.code()}, 400),
            ("post", "auth/reauthenticate/", lambda w: {"code": w.recovery_codes[0]}, 400),
            (
                "post",
                "auth/reauthenticate/",
                lambda w: {"passkey": w.assertion(KINDS["sign-in challenge"](w))},
                400,
            ),
            (
                "post",
                "auth/passkeys/register/verify/",
                lambda w: {
                    "passkey": Authenticator().create(
                        {
                            "challenge": KINDS["registration challenge"](w),
                            "user": {"id": encoded(b"x")},
                        }
                    )
                },
                400,
            ),
            ("post", "auth/email/", lambda w: {"email": OLD, "password": PASSWORD}, 400),
            ("post", "auth/mfa/disable/", lambda w: {"password": PASSWORD, "code": w.code()}, 409),
            (
                "post",
                "auth/mfa/recovery-codes/",
                lambda w: {"password": PASSWORD, "code": w.recovery_codes[0]},
                409,
            ),
        ],
    )
    def test_belongings_of_another_user_stay(self, world, other, method, path, body, status):
        passkey = Passkey.objects.get()
        path = path.format(session=world.session.pk, passkey=passkey.pk)
        before = snapshot()
        answer = send(other, method, path, body(world))
        assert answer.status_code == status, answer.content
        assert set(answer.json()) == ERROR_KEYS
        assert snapshot() == before

    def test_second_factor_of_another_user_is_refused(self, world, make_user):
        other = make_user("other@clinic.example")
        secret = encrypt_secret(SECRET[::-1].replace("8", "A"), owner=other.pk)
        TotpDevice.objects.create(user=other, secret=secret, confirmed_at=utc_now())
        token = mfa_token(other)
        before = snapshot()
        passkey = world.assertion(KINDS["sign-in challenge"](world))
        for proof in (
            {"code": world.code()},
            {"code": world.recovery_codes[0]},
            {"passkey": passkey},
            {"passkey": world.assertion(KINDS["second-factor challenge"](world))},
        ):
            assert posted("auth/login/mfa/", mfa_token=token, **proof).status_code == 401
        assert snapshot() == before

    def test_invitation_of_another_address_is_refused(self, world):
        before = snapshot()
        token = KINDS["invitation"](world)
        for email in ("other@clinic.example", world.user.email, OLD):
            body = {"email": email, "password": PASSWORD, "firstName": "A", "lastName": "B"}
            answer = posted("auth/register/", invitation=token, **body)
            assert (answer.status_code, list(answer.json()["field_errors"])) == (400, ["email"])
        assert snapshot() == before
