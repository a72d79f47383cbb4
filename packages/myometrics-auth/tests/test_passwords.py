"""Change a password, or reset it by mail."""

from __future__ import annotations

import re

import pytest
from conftest import NEW_PASSWORD, PASSWORD, later, query_of, refresh_by, send
from django.core import mail
from django.test import RequestFactory
from django.utils.http import urlsafe_base64_encode

from myometrics_auth.jobs import SendPasswordReset
from myometrics_auth.models import Session
from myometrics_auth.services.sessions import session_start
from myometrics_core.jobs import Job, run_jobs

pytestmark = pytest.mark.django_db

CHANGE = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}

disabling = pytest.mark.parametrize(
    "disable",
    [lambda user: user.set_unusable_password(), lambda user: user.set_password(None)],
    ids=["set_unusable_password", "set_password"],
)


def deliver():
    """Run the pending jobs; return the mails."""
    run_jobs(SendPasswordReset.name)
    return mail.outbox


def link_of(message):
    return query_of(re.search(r"https://\S+", message.body).group())


@pytest.fixture
def link(api, doctor):
    """The ``uid`` and ``token`` that a reset mail has brought the doctor."""
    send(api, "post", "auth/password-reset/", {"email": doctor.email})
    return link_of(deliver()[-1])


class TestPasswordChange:
    def test_keeps_this_session_and_ends_every_other(self, doctor, sign_in, api):
        here, there = sign_in(doctor), sign_in(doctor)
        answer = send(here, "post", "auth/change-password/", CHANGE)
        assert answer.status_code == 200
        assert answer.json() == {"detail": "Password changed successfully"}
        assert here.get("/api/auth/user/").status_code == 200
        assert there.get("/api/auth/user/").status_code == 401
        for client, status in ((here, 200), (there, 401)):
            assert refresh_by(api, client.tokens["refresh"]).status_code == status

    def test_only_the_new_password_signs_in(self, doctor, sign_in, api):
        send(sign_in(doctor), "post", "auth/change-password/", CHANGE)
        for password, status in ((PASSWORD, 401), (NEW_PASSWORD, 200)):
            body = {"email": doctor.email, "password": password}
            assert send(api, "post", "auth/login/", body).status_code == status

    def test_needs_the_old_password(self, doctor, sign_in):
        client = sign_in(doctor)
        body = {**CHANGE, "old_password": "wrong"}
        answer = send(client, "post", "auth/change-password/", body)
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["old_password"]
        doctor.refresh_from_db()
        assert doctor.check_password(PASSWORD)

    def test_validator_errors_are_on_new_password(self, doctor, sign_in):
        client, other = sign_in(doctor), sign_in(doctor)
        body = {**CHANGE, "new_password": "12345"}
        answer = send(client, "post", "auth/change-password/", body)
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["new_password"]
        assert other.get("/api/auth/user/").status_code == 200

    @pytest.mark.parametrize("field", CHANGE)
    @pytest.mark.parametrize("value", [None, "", 7, [], "x\x00", "\ud800", "x" * 257])
    def test_malformed_password_is_refused(self, doctor, sign_in, field, value):
        body = {**CHANGE, field: value}
        answer = send(sign_in(doctor), "post", "auth/change-password/", body)
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == [field]

    def test_needs_a_token(self, api):
        assert send(api, "post", "auth/change-password/", CHANGE).status_code == 401

    @disabling
    def test_disabling_ends_every_session(self, doctor, sign_in, disable):
        client = sign_in(doctor)
        disable(doctor)
        doctor.save()
        assert client.get("/api/auth/user/").status_code == 401

    @disabling
    def test_disabling_again_ends_no_session(self, make_user, disable):
        user = make_user(password=None)
        session_start(user=user, request=RequestFactory().get("/"))
        user.save()
        user.refresh_from_db()
        disable(user)
        user.save()
        assert user.sessions.live().count() == 1

    def test_change_by_site_code_ends_every_session(self, doctor, sign_in):
        client = sign_in(doctor)
        doctor.set_password(NEW_PASSWORD)
        doctor.save()
        assert client.get("/api/auth/user/").status_code == 401


class TestResetRequest:
    def test_response_is_the_same_for_unknown_addresses(self, api, doctor):
        answers = [
            send(api, "post", "auth/password-reset/", {"email": email})
            for email in (doctor.email, "unknown@clinic.example")
        ]
        for answer in answers:
            assert answer.status_code == 200
            assert answer.json() == {"detail": "Password reset email sent"}

    def test_queries_are_the_same_for_unknown_addresses(
        self, api, doctor, django_assert_num_queries
    ):
        for email in (doctor.email, "unknown@clinic.example"):
            with django_assert_num_queries(1):
                send(api, "post", "auth/password-reset/", {"email": email})

    def test_mails_a_link_to_the_front_end(self, api, doctor):
        send(api, "post", "auth/password-reset/", {"email": "DOCTOR@clinic.example"})
        (message,) = deliver()
        assert message.to == ["doctor@clinic.example"]
        assert "https://clinic.example/reset-password?uid=" in message.body
        assert set(link_of(message)) == {"uid", "token"}
        assert not Job.objects.exists()

    @pytest.mark.parametrize("typed", ["ｄoctor@clinic.example", "DOCTOR@CLINIC.EXAMPLE"])
    def test_mail_goes_to_the_stored_address(self, api, doctor, typed):
        send(api, "post", "auth/password-reset/", {"email": typed})
        assert [message.to for message in deliver()] == [["doctor@clinic.example"]]

    @pytest.mark.parametrize("typed", ["dоctor@clinic.example", "doctor@clınic.example"])
    def test_no_mail_for_a_homoglyph(self, api, doctor, typed):
        send(api, "post", "auth/password-reset/", {"email": typed})
        assert deliver() == []

    def test_international_address_created_by_the_site_gets_mail(self, api, make_user):
        make_user("ada@müller.example")
        send(api, "post", "auth/password-reset/", {"email": "ADA@xn--mller-kva.example"})
        send(api, "post", "auth/password-reset/", {"email": "ada@MÜLLER.example"})
        assert len(deliver()) == 2

    def test_ignores_a_stale_authorization_header(self, api):
        api.credentials(HTTP_AUTHORIZATION="Bearer not.a.token")
        body = {"email": "unknown@clinic.example"}
        assert send(api, "post", "auth/password-reset/", body).status_code == 200

    def test_no_mail_to_unknown_addresses_and_inactive_users(self, api, make_user):
        make_user("gone@clinic.example", is_active=False)
        make_user("sso@clinic.example", password=None)
        for email in ("gone@clinic.example", "sso@clinic.example", "unknown@clinic.example"):
            send(api, "post", "auth/password-reset/", {"email": email})
        assert deliver() == []
        assert not Job.objects.exists()

    @pytest.mark.parametrize("email", [None, "", "no-address", 7, [], "x\x00@x.example", "\ud800"])
    def test_malformed_address_is_a_400(self, api, email):
        answer = send(api, "post", "auth/password-reset/", {"email": email})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["email"]


class TestResetConfirm:
    def confirm(self, api, link, password=NEW_PASSWORD):
        body = {**link, "new_password": password}
        return send(api, "post", "auth/password-reset/confirm/", body)

    def test_sets_the_password_and_ends_every_session(self, api, doctor, sign_in, link):
        client = sign_in(doctor)
        assert self.confirm(api, link).status_code == 200
        assert client.get("/api/auth/user/").status_code == 401
        sign_in(doctor, NEW_PASSWORD)

    def test_works_once(self, api, doctor, link):
        assert self.confirm(api, link).status_code == 200
        answer = self.confirm(api, link, "another-fine-word-99")
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["token"]

    def test_link_is_not_used_up_by_a_refused_password(self, api, link):
        answer = self.confirm(api, link, "12345")
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["new_password"]
        assert self.confirm(api, link).status_code == 200

    def test_link_is_not_used_up_by_a_sign_in(self, api, doctor, sign_in, link):
        sign_in(doctor)
        assert self.confirm(api, link).status_code == 200

    def test_link_is_invalid_after_a_password_change(self, api, doctor, sign_in, link):
        send(sign_in(doctor), "post", "auth/change-password/", CHANGE)
        assert self.confirm(api, link, "another-fine-word-99").status_code == 400

    def test_link_is_invalid_for_inactive_and_deleted_users(self, api, doctor, link):
        type(doctor).objects.update(is_active=False)
        assert self.confirm(api, link).status_code == 400
        type(doctor).objects.all().delete()
        assert self.confirm(api, link).status_code == 400

    def test_link_expires_after_password_reset_timeout(self, api, link, settings):
        with later(days=1, seconds=settings.PASSWORD_RESET_TIMEOUT):
            assert self.confirm(api, link).status_code == 400

    def test_link_is_invalid_for_another_user(self, api, link, make_user):
        uid = urlsafe_base64_encode(str(make_user().pk).encode())
        assert self.confirm(api, {**link, "uid": uid}).status_code == 400

    @pytest.mark.parametrize("field", ["uid", "token"])
    @pytest.mark.parametrize(
        "value", ["x", "é", "A" * 255, "-", "___", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5"]
    )
    def test_refuses_a_wrong_link(self, api, link, field, value):
        answer = self.confirm(api, {**link, field: value})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["token"]

    @pytest.mark.parametrize("field", ["uid", "token", "new_password"])
    @pytest.mark.parametrize("value", [None, "", 7, [], {}, "x\x00", "\ud800", "x" * 1000])
    def test_non_text_values_are_400s(self, api, link, field, value):
        body = {**link, "new_password": NEW_PASSWORD, field: value}
        answer = send(api, "post", "auth/password-reset/confirm/", body)
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == [field]

    def test_reset_creates_no_session(self, api, doctor, link):
        self.confirm(api, link)
        assert not Session.objects.exists()
