"""A user's change of address: confirmed at the new one, undone from the old one."""

from __future__ import annotations

import json
import uuid

import pyotp
import pytest
from conftest import (
    NEW_PASSWORD,
    PASSWORD,
    enrol,
    later,
    link_in,
    post_form,
    query_of,
    run_mails,
    send,
)
from django.contrib.auth import get_user_model
from django.core import mail
from django.test import Client, RequestFactory
from django.urls import reverse
from rest_framework.test import APIClient
from test_passkeys import register, sign_in_with
from test_verification import reset_link_in

from myometrics_auth.account_links import confirmation_url
from myometrics_auth.errors import InvalidToken
from myometrics_auth.federation.models import Identity
from myometrics_auth.jobs import SendSecurityNotice
from myometrics_auth.models import EmailChange, Invitation, RecoveryCode, Session, TotpDevice
from myometrics_auth.passkeys.models import Passkey
from myometrics_auth.reset_links import reset_link
from myometrics_auth.services.email_changes import email_change_request
from myometrics_auth.services.notices import notice_send
from myometrics_auth.services.users import user_update
from myometrics_core.jobs import Job
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db

OLD, NEW = "doctor@clinic.example", "new@clinic.example"


def request_change(client, email=NEW, password=PASSWORD):
    return send(client, "post", "auth/email/", {"email": email, "password": password})


def confirm(link=None, password=PASSWORD):
    return post_form(APIClient(), link or link_in(run_mails()[-1]), password=password)


def change(client, email=NEW, password=PASSWORD):
    """Request and confirm a change; return the link to undo it."""
    assert request_change(client, email, password).status_code == 202
    assert confirm(password=password).status_code == 200
    return link_in(run_mails()[-1])


def errors(answer):
    assert answer.status_code == 400, answer.content
    return list(answer.json()["field_errors"])


def log_in(email, password=PASSWORD):
    return send(APIClient(), "post", "auth/login/", {"email": email, "password": password})


def email_of(user):
    return get_user_model().objects.get(pk=user.pk).email


@pytest.fixture
def client(doctor, sign_in):
    return sign_in(doctor)


class TestRequest:
    def test_mails_a_link_to_the_new_address_only(self, client, doctor):
        answer = request_change(client, "NEW@clinic.example")
        assert answer.status_code == 202
        assert set(answer.json()) == {"detail"}
        (message,) = run_mails()
        assert message.to == [NEW]
        assert "Jane" not in message.body
        assert email_of(doctor) == OLD

    def test_taken_address_is_refused(self, client, make_user):
        make_user("taken@clinic.example")
        assert errors(request_change(client, "TAKEN@clinic.example")) == ["email"]
        assert errors(request_change(client, OLD)) == ["email"]
        assert not EmailChange.objects.exists()

    def test_wrong_password_is_refused_before_the_address(self, client, make_user, published):
        make_user("taken@clinic.example")
        published.clear()
        for email in (NEW, "taken@clinic.example"):
            assert errors(request_change(client, email, "wrong")) == ["password"]
        assert [event.action for event in published] == ["login_failed"] * 2

    def test_wrong_passwords_count_in_the_login_throttle(self, client, settings):
        settings.MYOMETRICS_AUTH = {"FAILED_SIGN_IN_LIMIT": 3}
        for _ in range(4):
            request_change(client, password="wrong")
        assert errors(request_change(client)) == ["password"]

    def test_missing_password_is_refused(self, client):
        assert errors(send(client, "post", "auth/email/", {"email": NEW})) == ["password"]

    @pytest.mark.parametrize("email", [None, "", 7, [], "x", "a\x00@b.example", "аdmin@c.example"])
    def test_malformed_address_is_refused(self, client, email):
        assert errors(request_change(client, email)) == ["email"]

    def test_anonymous_is_a_401(self):
        assert request_change(APIClient()).status_code == 401

    def test_new_request_replaces_the_pending_one(self, client, doctor):
        request_change(client)
        first = link_in(run_mails()[-1])
        request_change(client, "other@clinic.example")
        assert confirm(first).status_code == 404
        assert EmailChange.objects.count() == 1

    def test_patch_of_the_profile_ignores_the_address(self, client, doctor):
        assert send(client, "patch", "auth/user/", {"email": NEW}).status_code == 200
        assert email_of(doctor) == OLD

    def test_session_that_has_ended_requests_no_change(self, client, doctor):
        session = Session.objects.get()
        Session.objects.end()
        with pytest.raises(InvalidToken):
            email_change_request(
                user=doctor,
                session=session,
                email=NEW,
                password=PASSWORD,
                request=RequestFactory().post("/"),
            )
        assert not EmailChange.objects.exists()

    def test_unconfirmed_address_is_not_reserved(self, client, make_user):
        request_change(client)
        body = {"email": NEW, "password": PASSWORD, "firstName": "A", "lastName": "B"}
        assert send(APIClient(), "post", "auth/register/", body).status_code == 201


class TestConfirm:
    def test_get_changes_nothing(self, client, doctor):
        request_change(client)
        answer = APIClient().get(link_in(run_mails()[-1]))
        assert answer.status_code == 200
        assert "password" in answer.content.decode()
        assert email_of(doctor) == OLD

    def test_post_changes_and_verifies(self, client, doctor, published):
        request_change(client)
        published.clear()
        assert confirm().status_code == 200
        doctor.refresh_from_db()
        assert (doctor.email, doctor.email_canonical) == (NEW, NEW)
        assert doctor.verified_at is not None
        assert [event.action for event in published] == ["email_changed"]
        assert client.get("/api/auth/user/").json()["email"] == NEW
        assert log_in(NEW).status_code == 200
        assert log_in(OLD).status_code == 401

    def test_old_address_is_notified(self, client):
        change(client)
        assert [message.to for message in mail.outbox] == [[NEW], [OLD]]
        assert "/api/auth/email/undo/?token=" in mail.outbox[-1].body
        assert NEW not in mail.outbox[-1].body

    def test_new_address_gets_a_notice(self, client):
        change(client)
        mail.outbox.clear()
        [message] = run_mails(SendSecurityNotice)
        assert message.to == [NEW]
        assert message.subject == "MyoMetrics: The e-mail address of your account was changed"

    @pytest.mark.parametrize("password", ["", "wrong"])
    def test_needs_the_password_of_the_account(self, client, doctor, password):
        request_change(client)
        assert confirm(password=password).status_code == 400
        assert email_of(doctor) == OLD
        assert confirm().status_code == 200

    def test_user_without_a_password_confirms_by_the_button(self, doctor):
        get_user_model().objects.filter(pk=doctor.pk).update(password="!unusable")
        EmailChange.objects.create(user=doctor, old_email=OLD, new_email=NEW)
        link = confirmation_url(EmailChange.objects.get())
        path = link[link.index("/api/") :]
        assert "password" not in APIClient().get(path).content.decode()
        assert APIClient().post(path).status_code == 200
        assert email_of(doctor) == NEW

    def test_link_works_once(self, client):
        request_change(client)
        link = link_in(run_mails()[-1])
        assert confirm(link).status_code == 200
        assert confirm(link).status_code == 404
        assert APIClient().get(link).status_code == 404

    def test_link_expires_after_three_days(self, client, doctor):
        request_change(client)
        link = link_in(run_mails()[-1])
        with later(days=3, minutes=1):
            assert confirm(link).status_code == 404
        assert email_of(doctor) == OLD

    def test_address_taken_since_is_an_error_page(self, client, doctor, make_user):
        request_change(client)
        make_user(NEW)
        answer = confirm()
        assert answer.status_code == 400
        assert "exists already" in answer.content.decode()
        assert email_of(doctor) == OLD
        assert EmailChange.objects.pending().exists()

    def test_password_changed_since_is_the_one_that_confirms(self, client, doctor):
        request_change(client)
        body = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}
        send(client, "post", "auth/change-password/", body)
        link = link_in(run_mails()[-1])
        assert confirm(link).status_code == 400
        assert confirm(link, NEW_PASSWORD).status_code == 200

    def test_disabled_password_ends_a_pending_change(self, client, doctor):
        request_change(client)
        link = link_in(run_mails()[-1])
        user = get_user_model().objects.get(pk=doctor.pk)
        user.set_unusable_password()
        user.save()
        assert post_form(APIClient(), link).status_code == 404
        assert email_of(doctor) == OLD

    def test_reset_by_mail_ends_a_pending_change(self, client, doctor):
        request_change(client)
        link = link_in(run_mails()[-1])
        body = {**query_of(reset_link(doctor)), "new_password": NEW_PASSWORD}
        send(APIClient(), "post", "auth/password-reset/confirm/", body)
        assert confirm(link, NEW_PASSWORD).status_code == 404

    def test_change_by_an_administrator_ends_pending_and_undo(self, client, doctor, administrator):
        undo = change(client)
        request_change(client, "third@clinic.example")
        pending = link_in(run_mails()[-1])
        changes = {"email": "fourth@clinic.example"}
        user_update(actor=administrator, user_id=doctor.pk, changes=changes, request=None)
        assert confirm(pending).status_code == 404
        assert APIClient().post(undo).status_code == 404


class TestReservation:
    def test_old_address_is_reserved_for_seven_days(self, client, administrator, sign_in):
        change(client)
        admin = sign_in(administrator)
        registration = {"email": OLD, "password": PASSWORD, "firstName": "A", "lastName": "B"}
        invitation = {"email": OLD, "role": "doctor"}

        def refused():
            return [
                errors(send(APIClient(), "post", "auth/register/", registration)),
                errors(send(admin, "post", "users/invitations/", invitation)),
                errors(request_change(admin, OLD)),
            ]

        assert refused() == [["email"]] * 3
        with later(days=7, minutes=1):
            answer = send(APIClient(), "post", "auth/register/", registration)
        assert answer.status_code == 201

    def test_invitation_from_before_is_refused(self, client, administrator, sign_in, make_user):
        # The address is invited while its account has another; then it becomes an old one.
        admin = sign_in(administrator)
        send(admin, "post", "users/invitations/", {"email": NEW, "role": "doctor"})
        token = query_of(link_in(run_mails()[-1]))["invitation"]
        change(client)
        change(client, "third@clinic.example")
        body = {"email": NEW, "password": PASSWORD, "firstName": "A", "lastName": "B"}
        answer = send(APIClient(), "post", "auth/register/", {**body, "invitation": token})
        assert errors(answer) == ["email"]

    def test_administrators_may_not_give_it_to_others(self, client, administrator, make_user):
        change(client)
        root = make_user("root@clinic.example", role="admin", is_staff=True, is_superuser=True)
        browser = Client()
        browser.force_login(root)
        form = {
            "email": OLD,
            "role": "doctor",
            "usable_password": "true",
            "password1": NEW_PASSWORD,
            "password2": NEW_PASSWORD,
        }
        page = browser.post(reverse("admin:myometrics_auth_user_add"), form)
        assert "exists already" in page.content.decode()
        with pytest.raises(Exception, match="exists already"):
            user_update(actor=root, user_id=administrator.pk, changes={"email": OLD}, request=None)
        assert email_of(administrator) == "admin@clinic.example"

    def test_owner_may_return_to_it_without_another_undo(self, client, doctor, clock):
        undo = change(client)
        clock.shift(60)
        request_change(client, OLD)
        assert confirm().status_code == 200
        assert email_of(doctor) == OLD
        assert not EmailChange.objects.exists()
        assert not Job.objects.filter(kind="myometrics_auth.send_email_undo").exists()
        assert APIClient().post(undo).status_code == 404

    def test_address_that_the_owner_leaves_to_return_gets_a_notice(self, client):
        change(client)
        run_mails(SendSecurityNotice)
        request_change(client, OLD)
        confirm()
        mail.outbox.clear()
        assert [message.to for message in run_mails(SendSecurityNotice)] == [[NEW], [OLD]]


class TestUndo:
    def test_get_undoes_nothing(self, client, doctor):
        undo = change(client)
        assert APIClient().get(undo).status_code == 200
        assert email_of(doctor) == NEW

    def test_post_restores_the_address_and_ends_all_sessions(self, client, doctor, published):
        undo = change(client)
        published.clear()
        answer = APIClient().post(undo)
        assert answer.status_code == 200
        assert email_of(doctor) == OLD
        assert client.get("/api/auth/user/").status_code == 401
        assert [event.action for event in published] == ["email_change_undone"]
        assert log_in(OLD).status_code == 401
        body = {**query_of(reset_link_in(answer)), "new_password": NEW_PASSWORD}
        assert send(APIClient(), "post", "auth/password-reset/confirm/", body).status_code == 200
        assert log_in(OLD, NEW_PASSWORD).status_code == 200

    def test_new_address_is_free_afterwards(self, client, make_user):
        APIClient().post(change(client))
        body = {"email": NEW, "password": PASSWORD, "firstName": "A", "lastName": "B"}
        assert send(APIClient(), "post", "auth/register/", body).status_code == 201

    def test_works_once(self, client):
        undo = change(client)
        assert [APIClient().post(undo).status_code for _ in range(2)] == [200, 404]

    def test_expires_after_seven_days(self, client, doctor):
        undo = change(client)
        with later(days=6, hours=23):
            assert APIClient().get(undo).status_code == 200
        with later(days=7, minutes=1):
            assert APIClient().post(undo).status_code == 404
        assert email_of(doctor) == NEW

    def test_password_and_reset_links_of_the_thief_stop_working(self, client, doctor):
        undo = change(client)
        body = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}
        send(client, "post", "auth/change-password/", body)
        doctor.refresh_from_db()
        stolen = query_of(reset_link(doctor))
        APIClient().post(undo)
        for email in (OLD, NEW):
            for password in (PASSWORD, NEW_PASSWORD):
                assert log_in(email, password).status_code == 401
        body = {**stolen, "new_password": "another-fine-word-99"}
        assert send(APIClient(), "post", "auth/password-reset/confirm/", body).status_code == 400

    def test_notices_to_the_new_address_stop_working_and_others_do_not(self, client, doctor):
        def notice_to(address):
            mail.outbox.clear()
            notice_send(user=doctor, notice="password_changed", request=None)
            message = run_mails(SendSecurityNotice)[-1]
            assert message.to == [address]
            return link_in(message)

        before = notice_to(OLD)
        undo = change(client)
        doctor.refresh_from_db()
        since = notice_to(NEW)
        statuses = [APIClient().get(link).status_code for link in (before, since)]
        assert statuses == [200, 200]
        APIClient().post(undo)
        assert APIClient().post(since).status_code == 404
        assert APIClient().post(before).status_code == 200

    def test_removes_factors_that_were_set_up_since(self, client, doctor, clock, published):
        undo = change(client)
        clock.shift(60)
        enrol(client)
        published.clear()
        APIClient().post(undo)
        assert not TotpDevice.objects.exists()
        assert [event.action for event in published] == [
            "second_factor_disabled",
            "email_change_undone",
        ]

    def test_keeps_factors_from_before(self, enrolled, doctor, clock):
        undo = change(enrolled)
        APIClient().post(undo)
        assert TotpDevice.objects.filter(confirmed_at__isnull=False).exists()

    def test_removes_passkeys_and_identities_that_were_added_recently_or_since(
        self, client, doctor, clock
    ):
        def add(name):
            Identity.objects.create(user=doctor, issuer="i", subject=name)
            Passkey.objects.create(
                user=doctor,
                name=name,
                credential_id=name,
                public_key=b"",
                aaguid=uuid.uuid4(),
                attestation="none",
                is_synced=False,
            )

        with later(days=-8, minutes=-1):
            add("before")
        with later(days=-7, hours=-23):
            add("recently")
        undo = change(client)
        clock.shift(60)
        add("since")
        APIClient().post(undo)
        assert [passkey.name for passkey in Passkey.objects.all()] == ["before"]
        assert [identity.subject for identity in Identity.objects.all()] == ["before"]

    def test_passkey_that_the_thief_added_first_stops_working(self, client, clock, published):
        passkey, answer = register(client)
        assert answer.status_code == 201
        clock.shift(1)
        undo = change(client)
        assert sign_in_with(passkey).status_code == 200
        published.clear()
        assert APIClient().post(undo).status_code == 200
        assert sign_in_with(passkey).status_code == 401
        assert not RecoveryCode.objects.exists()
        assert [event.action for event in published][:2] == [
            "second_factor_disabled",
            "email_change_undone",
        ]

    def test_passkey_that_the_thief_added_first_leaves_the_app_of_the_owner(self, enrolled, clock):
        clock.shift(60)
        assert register(enrolled)[1].status_code == 201
        clock.shift(1)
        APIClient().post(change(enrolled))
        assert not Passkey.objects.exists()
        assert TotpDevice.objects.filter(confirmed_at__isnull=False).exists()
        assert RecoveryCode.objects.count() == 10

    def test_identity_that_the_thief_linked_first_stops_working(
        self, client, doctor, clock, provider, exchange
    ):
        Identity.objects.create(
            user=doctor, issuer=provider.issuer, subject="thief", provider="hospital"
        )
        clock.shift(1)
        undo = change(client)
        assert exchange(provider.id_token("thief")).json()["user"]["id"] == doctor.pk
        assert APIClient().post(undo).status_code == 200
        # No longer this account: the provider's own address gets another one.
        assert exchange(provider.id_token("thief")).json()["user"]["id"] != doctor.pk
        assert client.get("/api/auth/user/").status_code == 401

    def test_undoes_later_changes_with_their_links(self, client, doctor, clock):
        first = change(client)
        clock.shift(60)
        second = change(client, "third@clinic.example")
        clock.shift(60)
        request_change(client, "fourth@clinic.example")
        pending = link_in(run_mails()[-1])
        assert APIClient().post(first).status_code == 200
        assert email_of(doctor) == OLD
        assert APIClient().post(second).status_code == 404
        assert confirm(pending).status_code == 404

    def test_earlier_change_can_be_undone_after_a_later_one(self, client, doctor, clock):
        first = change(client)
        clock.shift(60)
        second = change(client, "third@clinic.example")
        assert APIClient().post(second).status_code == 200
        assert email_of(doctor) == NEW
        assert APIClient().post(first).status_code == 200
        assert email_of(doctor) == OLD

    def test_revokes_invitations_made_since(self, administrator, sign_in, clock):
        client = sign_in(administrator)
        send(client, "post", "users/invitations/", {"email": "a@c.example", "role": "doctor"})
        clock.shift(60)
        undo = change(client)
        send(client, "post", "users/invitations/", {"email": "b@c.example", "role": "admin"})
        APIClient().post(undo)
        assert [invitation.email for invitation in Invitation.objects.all()] == ["a@c.example"]

    def test_unverified_registration_is_taken_over(self, clock):
        body = {"email": OLD, "password": PASSWORD, "firstName": "A", "lastName": "B"}
        tokens = send(APIClient(), "post", "auth/register/", body).json()
        thief = APIClient(HTTP_AUTHORIZATION=f"Bearer {tokens['access']}")
        enrol(thief)
        run_mails()
        undo = change(thief)
        APIClient().post(undo)
        assert not TotpDevice.objects.exists()
        assert thief.get("/api/auth/user/").status_code == 401
        user = get_user_model().objects.get()
        assert (user.email, user.verified_at) == (OLD, utc_now())

    def test_address_that_site_code_has_given_away_is_an_error(self, client, make_user):
        undo = change(client)
        make_user(OLD)
        answer = APIClient().post(undo)
        assert answer.status_code == 400
        assert "exists already" in answer.content.decode()

    @pytest.mark.parametrize("token", ["", "x", "a:b:c", "%00", "x" * 1001])
    @pytest.mark.parametrize("page", ["confirm", "undo"])
    def test_malformed_token_is_an_error_page(self, page, token):
        for method in ("get", "post"):
            answer = getattr(APIClient(), method)(f"/api/auth/email/{page}/?token={token}")
            assert answer.status_code in (400, 404)
            assert "This did not work" in answer.content.decode()

    def test_links_of_confirm_and_undo_are_not_exchangeable(self, client):
        request_change(client)
        link = link_in(run_mails()[-1])
        assert APIClient().post(link.replace("confirm", "undo")).status_code == 404
        confirm(link)
        undo = link_in(run_mails()[-1])
        assert confirm(undo.replace("undo", "confirm")).status_code == 404


class TestPersonalData:
    def test_export_holds_the_changes(self, client):
        change(client)
        export = client.get("/api/users/me/export/?format=json")
        (row,) = json.loads(b"".join(export))["profile"]["emailChanges"]
        assert (row["old"], row["new"]) == (OLD, NEW)

    def test_erasure_deletes_them(self, client):
        undo = change(client)
        assert client.delete("/api/users/me/").status_code == 204
        assert not EmailChange.objects.exists()
        assert APIClient().post(undo).status_code == 404

    def test_sweep_deletes_what_is_over(self, client):
        change(client)
        request_change(client, "third@clinic.example")
        with later(days=4):
            EmailChange.objects.sweepable().delete()
            assert EmailChange.objects.count() == 1
        with later(days=8):
            EmailChange.objects.sweepable().delete()
            assert not EmailChange.objects.exists()


def test_totp_of_the_owner_works_after_a_change(enrolled, clock):
    change(enrolled)
    clock.shift(60)
    body = {"mfa_token": log_in(NEW).json()["mfa_token"], "code": enrolled.app.at(utc_now())}
    assert isinstance(enrolled.app, pyotp.TOTP)
    assert send(APIClient(), "post", "auth/login/mfa/", body).status_code == 200
