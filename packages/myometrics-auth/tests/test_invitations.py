"""Registration by invitation, and closed registration."""

from __future__ import annotations

import pytest
from conftest import PASSWORD, later, link_in, query_of, run_mails, send
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from rest_framework.exceptions import ValidationError
from rest_framework.test import APIClient

from myometrics_auth.jobs import Sweep
from myometrics_auth.models import Invitation
from myometrics_auth.services.invitations import (
    invitation_accept,
    invitation_check,
    invitation_create,
)
from myometrics_core.jobs import Job

pytestmark = pytest.mark.django_db

EMAIL = "invited@clinic.example"
INVITATION = {"email": EMAIL, "role": "technician", "clinicName": "visit evil.example"}
REGISTRATION = {"email": EMAIL, "password": PASSWORD, "firstName": "A", "lastName": "B"}


@pytest.fixture(params=["invitation", "open"])
def mode(request, settings):
    settings.MYOMETRICS_AUTH = {"REGISTRATION": request.param}


@pytest.fixture
def invitation_only(settings):
    settings.MYOMETRICS_AUTH = {"REGISTRATION": "invitation"}


@pytest.fixture
def client(administrator, sign_in):
    return sign_in(administrator)


def invite(client, **fields):
    return send(client, "post", "users/invitations/", {**INVITATION, **fields})


def mailed_token():
    return query_of(link_in(run_mails()[-1]))["invitation"]


@pytest.fixture
def token(client):
    assert invite(client).status_code == 201
    return mailed_token()


def register(token, **fields):
    body = {**REGISTRATION, "invitation": token, **fields}
    return send(APIClient(), "post", "auth/register/", body)


def errors(answer):
    assert answer.status_code == 400, answer.content
    return list(answer.json()["field_errors"])


class TestInvite:
    def test_response_is_the_invitation(self, client, clock):
        answer = invite(client, email="Invited@Clinic.example")
        invitation = Invitation.objects.get()
        assert answer.status_code == 201
        assert answer.json() == {
            "id": str(invitation.pk),
            **INVITATION,
            "expiresAt": "2026-03-09T09:00:10Z",
        }

    def test_mail_links_to_the_front_end_without_client_text(self, client):
        invite(client)
        (message,) = run_mails()
        assert message.to == [EMAIL]
        assert "https://clinic.example/register?invitation=" in message.body
        text = str(message.message())
        assert "evil" not in text
        assert "Jane" not in text

    def test_publishes_ids_and_the_role_only(self, client, administrator, published):
        published.clear()
        invite(client)
        (event,) = published
        assert (event.action, event.actor_id) == ("user_invited", administrator.pk)
        assert (event.resource_type, event.details) == ("invitation", {"role": "technician"})

    @pytest.mark.parametrize("who", ["doctor", "nobody"])
    def test_only_administrators_invite(self, doctor, sign_in, who):
        caller = sign_in(doctor) if who == "doctor" else APIClient()
        path = "/api/users/invitations/"
        expected = 403 if who == "doctor" else 401
        assert invite(caller).status_code == expected
        assert caller.get(path).status_code == expected
        key = "00000000-0000-4000-8000-000000000000"
        assert caller.delete(f"{path}{key}/").status_code == expected
        assert caller.post(f"{path}{key}/resend/").status_code == expected

    def test_address_with_an_account_is_refused(self, client, doctor):
        assert errors(invite(client, email="DOCTOR@clinic.example")) == ["email"]

    def test_invited_address_is_refused_in_every_spelling(self, client, token):
        assert errors(invite(client, email="INVITED@clinic.example")) == ["email"]
        assert Invitation.objects.count() == 1

    def test_expired_invitation_is_replaced(self, client, token, administrator):
        with later(days=8):
            invitation_create(actor=administrator, email=EMAIL, role="doctor", request=None)
        assert Invitation.objects.get().role == "doctor"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("email", None),
            ("email", "x"),
            ("email", "a\x00@b.example"),
            ("email", "nеw@clinic.example"),
            ("role", "root"),
            ("role", None),
            ("role", []),
            ("clinicName", "x" * 101),
            ("clinicName", "\ud800"),
            ("clinicName", 7),
        ],
    )
    def test_bad_input_is_a_400(self, client, field, value):
        assert errors(invite(client, **{field: value})) == [field]
        assert not Job.objects.filter(kind="myometrics_auth.send_invitation").exists()

    def test_role_above_the_inviters_own_is_refused(self, make_user, sign_in, settings):
        settings.MYOMETRICS = {
            **settings.MYOMETRICS,
            "IS_ADMINISTRATOR": "hosts_own.is_staff",
        }
        client = sign_in(make_user(role="doctor", is_staff=True))
        assert errors(invite(client, role="admin")) == ["role"]
        assert invite(client, role="doctor").status_code == 201


class TestAccept:
    def test_role_and_clinic_are_the_invitations(self, mode, token, published):
        published.clear()
        answer = register(token, clinicName="Mine", role="admin")
        assert answer.status_code == 201
        user = get_user_model().objects.get(email=EMAIL)
        assert (user.role, user.clinic_name) == ("technician", INVITATION["clinicName"])
        assert user.verified_at is not None
        assert user.self_registered is False
        assert [event.action for event in published] == ["invitation_accepted", "login_succeeded"]
        assert len(run_mails()) == 1

    def test_works_once(self, mode, token):
        assert register(token).status_code == 201
        get_user_model().objects.filter(email=EMAIL).delete()
        assert errors(register(token)) == ["invitation"]

    def test_another_address_is_refused(self, mode, token):
        assert errors(register(token, email="other@clinic.example")) == ["email"]
        assert register(token, email="INVITED@clinic.example").status_code == 201

    @pytest.mark.parametrize("bad", ["x", "a:b:c", "x" * 1000, "ä", "\ud7ff", "🦊"])
    def test_bad_invitation_is_refused(self, mode, bad):
        assert errors(register(bad)) == ["invitation"]
        assert not get_user_model().objects.filter(email=EMAIL).exists()

    @pytest.mark.parametrize("bad", [7, [], None, "\x00", "\ud800", "x" * 1001])
    def test_malformed_invitation_is_refused(self, mode, bad):
        assert errors(register(bad)) == ["invitation"]

    def test_missing_invitation_is_refused(self, invitation_only):
        assert errors(send(APIClient(), "post", "auth/register/", REGISTRATION)) == ["invitation"]
        assert errors(register("")) == ["invitation"]

    def test_uninvited_users_cannot_find_taken_addresses(self, invitation_only, doctor):
        answers = [register("x", email=email) for email in (doctor.email, "unknown@c.example")]
        assert answers[0].content == answers[1].content

    def test_expired_invitation_is_refused(self, mode, token):
        with later(days=6, hours=23):
            assert errors(register(token, password="12345")) == ["password"]
        with later(days=7, minutes=1):
            assert errors(register(token)) == ["invitation"]

    def test_refused_password_does_not_use_it_up(self, mode, token):
        assert errors(register(token, password="12345")) == ["password"]
        assert register(token).status_code == 201

    def test_address_that_was_registered_since_is_refused(self, mode, token, make_user):
        make_user(EMAIL)
        assert errors(register(token)) == ["email"]

    @pytest.mark.parametrize(
        "change", [{"role": "doctor"}, {"is_active": False}], ids=["demoted", "deactivated"]
    )
    def test_inviter_must_still_be_an_administrator(self, mode, token, administrator, change):
        get_user_model().objects.filter(pk=administrator.pk).update(**change)
        assert errors(register(token)) == ["invitation"]

    @pytest.mark.parametrize("change", [{"role": "doctor"}, {"is_active": False}])
    def test_inviter_demoted_during_the_registration(self, mode, token, administrator, change):
        stale = invitation_check(token, email=EMAIL)
        get_user_model().objects.filter(pk=administrator.pk).update(**change)
        with pytest.raises(ValidationError):
            invitation_accept(invitation=stale, user=get_user_model()(email=EMAIL))
        assert Invitation.objects.count() == 1

    def test_deletion_of_the_inviter_revokes(self, mode, token, administrator):
        administrator.delete()
        assert errors(register(token)) == ["invitation"]

    def test_invited_user_signs_in_where_verification_is_required(self, token, settings):
        settings.MYOMETRICS_AUTH = {"EMAIL_VERIFICATION": "required"}
        assert register(token).status_code == 201


class TestResendAndRevoke:
    def test_resend_mails_a_new_link_and_ends_the_old_one(self, client, token):
        answer = client.post(f"/api/users/invitations/{Invitation.objects.get().pk}/resend/")
        assert answer.status_code == 200
        assert answer.json()["email"] == EMAIL
        renewed = mailed_token()
        assert errors(register(token)) == ["invitation"]
        assert register(renewed).status_code == 201

    def test_resend_renews_an_expired_invitation(self, token, administrator, sign_in):
        with later(days=8):
            key = Invitation.objects.get().pk
            sign_in(administrator).post(f"/api/users/invitations/{key}/resend/")
            assert register(mailed_token()).status_code == 201

    def test_resend_makes_the_caller_the_inviter(self, token, make_user, sign_in, administrator):
        other = make_user(role="admin")
        key = Invitation.objects.get().pk
        assert sign_in(other).post(f"/api/users/invitations/{key}/resend/").status_code == 200
        administrator.delete()
        assert register(mailed_token()).status_code == 201

    def test_resend_to_an_address_with_an_account_is_refused(self, client, token, make_user):
        make_user(EMAIL)
        key = Invitation.objects.get().pk
        assert errors(client.post(f"/api/users/invitations/{key}/resend/")) == ["email"]

    def test_revoked_invitation_is_refused(self, mode, client, token, published):
        published.clear()
        key = Invitation.objects.get().pk
        assert client.delete(f"/api/users/invitations/{key}/").status_code == 204
        assert client.delete(f"/api/users/invitations/{key}/").status_code == 404
        assert errors(register(token)) == ["invitation"]
        assert [event.action for event in published] == ["invitation_revoked"]

    @pytest.mark.parametrize("key", ["x", "1", "00000000-0000-4000-8000-000000000000", "%00"])
    def test_unknown_invitation_is_a_404(self, client, key):
        assert client.delete(f"/api/users/invitations/{key}/").status_code in (404, 405)
        assert client.post(f"/api/users/invitations/{key}/resend/").status_code == 404

    def test_list_is_paged_newest_first(self, client):
        for number in range(3):
            invite(client, email=f"invited{number}@clinic.example")
        page = client.get("/api/users/invitations/?page_size=2").json()
        assert page["count"] == 3
        assert [row["email"] for row in page["results"]] == [
            "invited2@clinic.example",
            "invited1@clinic.example",
        ]

    def test_sweep_deletes_those_expired_for_a_month(self, token):
        with later(days=36):
            Sweep().run(Job())
            assert Invitation.objects.exists()
        with later(days=38):
            Sweep().run(Job())
            assert not Invitation.objects.exists()

    def test_deletion_of_a_user_deletes_an_invitation_of_the_address(self, token, make_user):
        make_user(EMAIL).delete()
        assert not Invitation.objects.exists()


class TestClosed:
    @pytest.fixture(autouse=True)
    def _closed(self, settings):
        settings.MYOMETRICS_AUTH = {"REGISTRATION": "closed"}

    def test_registration_is_a_403(self, doctor):
        for email in (EMAIL, doctor.email):
            answer = send(APIClient(), "post", "auth/register/", {**REGISTRATION, "email": email})
            assert (answer.status_code, answer.json()["code"]) == (403, "registration_closed")

    @pytest.mark.parametrize("body", ["", "{", "[]", '{"email": 7}'])
    def test_registration_is_a_403_whatever_the_body(self, api, body):
        answer = api.generic("POST", "/api/auth/register/", body, "application/json")
        assert (answer.status_code, answer.json()["code"]) == (403, "registration_closed")

    def test_closed_registration_allows_no_invitations(self, client):
        answer = invite(client)
        assert (answer.status_code, answer.json()["code"]) == (403, "registration_closed")

    def test_older_invitation_is_a_403(self, client, settings):
        settings.MYOMETRICS_AUTH = {}
        invite(client)
        token = mailed_token()
        settings.MYOMETRICS_AUTH = {"REGISTRATION": "closed"}
        assert register(token).json()["code"] == "registration_closed"


class TestAdminSite:
    @pytest.fixture
    def browser(self, make_user, client):
        user = make_user("root@clinic.example", role="admin", is_staff=True, is_superuser=True)
        browser = Client()
        browser.force_login(user)
        return browser

    def add(self, browser, **fields):
        form = {"email": EMAIL, "role": "doctor", "clinic_name": "", **fields}
        return browser.post(reverse("admin:myometrics_auth_invitation_add"), form, follow=True)

    def test_adding_sends_the_mail(self, browser):
        self.add(browser)
        assert Invitation.objects.get().email == EMAIL
        assert [message.to for message in run_mails()] == [[EMAIL]]

    def test_problems_are_shown(self, browser, doctor):
        assert "exists already" in self.add(browser, email=doctor.email).content.decode()
        self.add(browser)
        assert "invited already" in self.add(browser).content.decode()

    @pytest.mark.parametrize(("action", "left", "mails"), [("resend", 1, 2), ("revoke", 0, 1)])
    def test_actions(self, browser, action, left, mails):
        self.add(browser)
        run_mails()
        form = {"action": action, "_selected_action": [str(Invitation.objects.get().pk)]}
        browser.post(reverse("admin:myometrics_auth_invitation_changelist"), form)
        assert Invitation.objects.count() == left
        assert len(run_mails()) == mails

    def test_staff_below_administrator_may_not_add(self, make_user):
        user = make_user(is_staff=True)
        user.user_permissions.set(Permission.objects.all())
        browser = Client()
        browser.force_login(user)
        assert self.add(browser).status_code == 403
        assert not Invitation.objects.exists()

    def test_roles_above_ones_own_are_not_offered(self, make_user, settings):
        settings.MYOMETRICS = {**settings.MYOMETRICS, "IS_ADMINISTRATOR": "hosts_own.is_staff"}
        user = make_user(is_staff=True)
        user.user_permissions.set(Permission.objects.all())
        browser = Client()
        browser.force_login(user)
        self.add(browser, role="admin")
        assert not Invitation.objects.exists()

    def test_log_of_the_admin_site_has_no_address(self, browser):
        self.add(browser)
        assert EMAIL not in LogEntry.objects.get().object_repr
