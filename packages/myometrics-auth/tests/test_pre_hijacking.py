"""Pre-hijacking: an attacker registers an address whose owner reads its mails.

Property, over any order of their steps: the attacker has no access to an account whose address is
verified and the owner's, and the owner gets in by mail whatever the attacker did. The owner follows
every link, also those that the attacker has caused; the owner never has the attacker's passwords.
"""

from __future__ import annotations

from contextlib import suppress

import pyotp
import pytest
import time_machine
from authenticator import Authenticator
from conftest import PASSWORD, link_in, post_form, query_of, refresh_by, run_mails, send
from django.contrib.auth import get_user_model
from django.core import mail
from django.test import override_settings
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from rest_framework.exceptions import ValidationError
from rest_framework.test import APIClient

from myometrics_auth.models import Invitation
from myometrics_auth.passkeys.services import passkey_begin_sign_in
from myometrics_auth.services.invitations import invitation_create
from myometrics_core.times import utc_now

OWNER, ATTACKER, THIRD = "owner@clinic.example", "attacker@evil.example", "third@evil.example"
OWNERS_PASSWORD = "mild-badger-hums-"
NAMES = {"firstName": "A", "lastName": "B"}


class World:
    """The steps of both; a step that is refused changes nothing."""

    def __init__(self):
        self.owners_passwords = 0
        self.clients, self.refresh_tokens, self.mfa_tokens = [], [], []
        self.passwords, self.apps, self.codes, self.passkeys = [PASSWORD], [], [], []
        self.owners_password = ""

    # The attacker

    def register_owner(self):
        body = {"email": OWNER, "password": self.passwords[-1], **NAMES}
        self._keep(send(APIClient(), "post", "auth/register/", body))

    def register_own(self):
        body = {"email": ATTACKER, "password": self.passwords[-1], **NAMES}
        self._keep(send(APIClient(), "post", "auth/register/", body))

    def log_in(self):
        for email in (OWNER, ATTACKER, THIRD):
            for password in set(self.passwords):
                body = {"email": email, "password": password}
                self._keep(send(APIClient(), "post", "auth/login/", body))

    def finish(self):
        for token in self.mfa_tokens:
            for code in (*(app.at(utc_now()) for app in self.apps), *self.codes[:1]):
                body = {"mfa_token": token, "code": code}
                self._keep(send(APIClient(), "post", "auth/login/mfa/", body))

    def enrol(self):
        for client in self.clients:
            body = {"password": self.passwords[-1]}
            answer = send(client, "post", "auth/mfa/enrol/", body)
            if answer.status_code == 201:
                self.apps.append(pyotp.parse_uri(answer.json()["otpauth_url"]))

    def confirm_app(self):
        for client in self.clients:
            for app in self.apps[-1:]:
                answer = send(client, "post", "auth/mfa/confirm/", {"code": app.at(utc_now())})
                self.codes = answer.json().get("recovery_codes", self.codes)

    def add_passkey(self):
        for client in self.clients:
            for password in set(self.passwords):
                body = {"password": password}
                answer = send(client, "post", "auth/passkeys/register/options/", body)
                if answer.status_code == 200:
                    passkey = Authenticator()
                    body = {"passkey": passkey.create(answer.json()["publicKey"])}
                    send(client, "post", "auth/passkeys/register/verify/", body)
                    self.passkeys.append(passkey)
                    break

    def log_in_by_passkey(self):
        for passkey in self.passkeys:
            body = {"passkey": passkey.get(passkey_begin_sign_in())}
            self._keep(send(APIClient(), "post", "auth/login/passkey/verify/", body))

    def change_password(self):
        new = self.passwords[-1] + "x"
        for client in self.clients:
            body = {"old_password": self.passwords[-1], "new_password": new}
            if send(client, "post", "auth/change-password/", body).status_code == 200:
                self.passwords.append(new)
                return

    def move_away(self):
        self._move(ATTACKER)

    def move_on(self):
        self._move(THIRD)

    def move_to_owner(self):
        self._move(OWNER)

    def ask_for_mails(self):
        for email in (OWNER, ATTACKER):
            send(APIClient(), "post", "auth/verify-email/", {"email": email})
            send(APIClient(), "post", "auth/password-reset/", {"email": email})

    def follow_own_links(self):
        for kind, link in self._links(ATTACKER, THIRD):
            if kind == "reset":
                body = {**query_of(link), "new_password": self.passwords[-1] + "y"}
                answer = send(APIClient(), "post", "auth/password-reset/confirm/", body)
                if answer.status_code == 200:
                    self.passwords.append(body["new_password"])
            elif kind in ("verify", "confirm"):
                for password in set(self.passwords):
                    post_form(APIClient(), link, password=password)

    def undo_own(self):
        for kind, link in self._links(ATTACKER, THIRD):
            if kind == "undo":
                APIClient().post(link)

    # The owner, and an administrator

    def reset_by_mail(self):
        for kind, link in self._links(OWNER):
            if kind == "reset":
                self._reset(link)

    def click_verify(self):
        for kind, link in self._links(OWNER):
            if kind == "verify":
                post_form(APIClient(), link, password=self.owners_password)
                APIClient().post(link)

    def click_confirm(self):
        for kind, link in self._links(OWNER):
            if kind == "confirm":
                APIClient().post(link)
                post_form(APIClient(), link, password=OWNERS_PASSWORD)

    def click_undo(self):
        for kind, link in self._links(OWNER):
            if kind == "undo":
                APIClient().post(link)

    def ask_for_reset(self):
        send(APIClient(), "post", "auth/password-reset/", {"email": OWNER})

    def invite_owner(self):
        inviter = get_user_model().objects.get(email="admin@clinic.example")
        account = get_user_model().objects.filter(email=OWNER).exists()
        if not account and not Invitation.objects.filter(email=OWNER).exists():
            with suppress(ValidationError):  # the address may be reserved
                invitation_create(actor=inviter, email=OWNER, role="doctor", request=None)

    def accept_invitation(self):
        for kind, link in self._links(OWNER):
            if kind == "invitation":
                password = self._new_password()
                body = {"email": OWNER, "password": password, **NAMES, **query_of(link)}
                if send(APIClient(), "post", "auth/register/", body).status_code == 201:
                    self.owners_password = password

    def register_as_owner(self):
        password = self._new_password()
        body = {"email": OWNER, "password": password, **NAMES}
        if send(APIClient(), "post", "auth/register/", body).status_code in (201, 403):
            self.owners_password = password

    # What must hold

    def check(self):
        """The attacker has no access to the account of the owner's verified address."""
        user = get_user_model().objects.filter(email=OWNER).exclude(verified_at=None).first()
        if user is None:
            return
        for client in self.clients:
            assert client.get("/api/auth/user/").json().get("email") != OWNER
        for token in self.refresh_tokens:
            access = refresh_by(APIClient(), token).json().get("access", "x")
            client = APIClient(HTTP_AUTHORIZATION=f"Bearer {access}")
            assert client.get("/api/auth/user/").json().get("email") != OWNER
        for password in set(self.passwords):
            assert not user.check_password(password)

    def owner_gets_in(self):
        """By the undo link, a reset or a registration; without a code of the attacker."""
        self.click_undo()
        self.ask_for_reset()
        run_mails()
        self.reset_by_mail()
        if not get_user_model().objects.filter(email=OWNER).exists():
            self.register_as_owner()
            run_mails()
            self.click_verify()
        body = {"email": OWNER, "password": self.owners_password}
        answer = send(APIClient(), "post", "auth/login/", body)
        assert set(answer.json()) == {"access", "refresh", "user"}, answer.json()
        self.check()

    def _keep(self, answer):
        tokens = answer.json()
        if "access" in tokens:
            self.clients.append(APIClient(HTTP_AUTHORIZATION=f"Bearer {tokens['access']}"))
            self.refresh_tokens.append(tokens["refresh"])
        elif "mfa_token" in tokens:
            self.mfa_tokens.append(tokens["mfa_token"])

    def _move(self, email):
        for client in self.clients:
            for password in set(self.passwords):
                body = {"email": email, "password": password}
                if send(client, "post", "auth/email/", body).status_code == 202:
                    break

    def _links(self, *addresses):
        run_mails()
        kinds = {
            "verify-email/confirm": "verify",
            "email/confirm": "confirm",
            "email/undo": "undo",
            "reset-password": "reset",
            "?invitation=": "invitation",
        }
        for message in list(mail.outbox):
            if message.to[0] in addresses:
                link = link_in(message)
                yield next(kind for part, kind in kinds.items() if part in link), link

    def _reset(self, link):
        password = self._new_password()
        body = {**query_of(link), "new_password": password}
        answer = send(APIClient(), "post", "auth/password-reset/confirm/", body)
        if answer.status_code == 200:
            self.owners_password = password

    def _new_password(self):
        self.owners_passwords += 1
        return f"{OWNERS_PASSWORD}{self.owners_passwords}"


STEPS = sorted(
    name
    for name, value in vars(World).items()
    if not name.startswith("_") and name not in ("check", "owner_gets_in") and callable(value)
)


class TestInAnyOrder(TestCase):
    """Property: whatever the order of steps, only the owner of the mailbox gets in."""

    @hypothesis_settings(max_examples=60)
    @given(
        steps=st.lists(st.sampled_from(STEPS), max_size=12),
        verification=st.sampled_from(["optional", "required"]),
    )
    @example(
        steps=["register_owner", "enrol", "confirm_app", "click_verify", "log_in"],
        verification="optional",
    )
    @example(
        steps=["register_owner", "ask_for_reset", "change_password", "reset_by_mail"],
        verification="optional",
    )
    @example(
        steps=["register_owner", "enrol", "confirm_app", "move_away", "follow_own_links"],
        verification="optional",
    )
    @example(
        steps=["register_own", "follow_own_links", "log_in", "move_to_owner", "click_confirm"],
        verification="required",
    )
    @example(
        steps=["register_owner", "add_passkey", "ask_for_reset", "reset_by_mail"],
        verification="optional",
    )
    @example(
        steps=["invite_owner", "register_owner", "accept_invitation", "enrol", "confirm_app"],
        verification="optional",
    )
    @example(
        steps=["register_owner", "move_away", "follow_own_links", "move_on", "click_undo"],
        verification="optional",
    )
    def test_only_the_owner_of_the_mailbox_gets_in(self, steps, verification):
        get_user_model().objects.create_user("admin@clinic.example", PASSWORD, role="admin")
        settings = {"EMAIL_VERIFICATION": verification, "FAILED_SIGN_IN_LIMIT": 10_000}
        with (
            time_machine.travel("2026-03-02T09:00:10+00:00", tick=False) as clock,
            override_settings(MYOMETRICS_AUTH=settings),
        ):
            world = World()
            for step in steps:
                getattr(world, step)()
                run_mails()
                world.check()
                clock.shift(31)
            world.owner_gets_in()
            world.log_in()
            world.finish()
            world.log_in_by_passkey()
            world.check()


@pytest.mark.django_db
class TestResetUnderWay:
    """A reset mail that is under way survives what the registering user does."""

    def test_link_survives_a_password_change_by_the_registering_user(self):
        world = World()
        world.register_owner()
        world.ask_for_reset()
        run_mails()
        world.change_password()
        world.reset_by_mail()
        body = {"email": OWNER, "password": world.owners_password}
        assert send(APIClient(), "post", "auth/login/", body).status_code == 200

    def test_link_of_an_unverified_account_works_once(self):
        world = World()
        world.register_owner()
        world.ask_for_reset()
        world.reset_by_mail()
        first = world.owners_password
        world.reset_by_mail()
        assert world.owners_password == first

    def test_two_links_of_an_unverified_account_work_once(self):
        world = World()
        world.register_owner()
        world.ask_for_reset()
        world.ask_for_reset()
        world.reset_by_mail()
        assert world.owners_password.endswith("-1")
