"""Verified addresses: the mailed page, and who may sign in without."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from conftest import (
    NEW_PASSWORD,
    PASSWORD,
    enrol,
    later,
    link_in,
    post_form,
    query_of,
    refresh_by,
    run_mails,
    send,
)
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.management import call_command
from django.test import Client
from rest_framework.test import APIClient

from myometrics_auth.account_links import verification_url
from myometrics_auth.jobs import SendVerification
from myometrics_auth.models import Session
from myometrics_auth.services.users import user_update
from myometrics_core.jobs import Job, run_jobs

pytestmark = pytest.mark.django_db

EMAIL = "new.user@clinic.example"
CREDENTIALS = {"email": EMAIL, "password": PASSWORD}
REGISTRATION = {**CREDENTIALS, "firstName": "won! visit evil.example", "lastName": "Smith"}


def register(**fields):
    return send(APIClient(), "post", "auth/register/", {**REGISTRATION, **fields})


def log_in(password=PASSWORD):
    return send(APIClient(), "post", "auth/login/", {"email": EMAIL, "password": password})


def account():
    return get_user_model().objects.get(email=EMAIL)


@pytest.fixture
def required(settings):
    settings.MYOMETRICS_AUTH = {"EMAIL_VERIFICATION": "required"}


@pytest.fixture
def link(db):
    """The link that was mailed after a registration."""
    register()
    return link_in(run_mails()[-1])


class TestMail:
    def test_registration_mails_a_link_without_client_text(self):
        assert register().status_code == 201
        (message,) = run_mails()
        assert message.to == [EMAIL]
        assert "evil" not in str(message.message())
        assert "/api/auth/verify-email/confirm/?token=" in link_in(message)
        assert EMAIL not in link_in(message)

    def test_job_is_written_with_the_account(self):
        register()
        assert Job.objects.get().payload == {"email": EMAIL}

    def test_refused_registration_mails_nothing(self):
        register(password="12345")
        assert not Job.objects.exists()

    def test_new_link_has_the_same_response_for_every_address(self, make_user):
        register()
        verified = make_user()
        call_command("verify_addresses", mark_verified=True, verbosity=0)
        make_user("inactive@clinic.example", is_active=False)
        addresses = [EMAIL, verified.email, "inactive@clinic.example", "unknown@clinic.example"]
        answers = [
            send(APIClient(), "post", "auth/verify-email/", {"email": email}) for email in addresses
        ]
        assert {(answer.status_code, answer.content) for answer in answers} == {
            (200, b'{"detail":"Verification email sent"}')
        }
        assert run_mails() == []

    def test_new_link_is_mailed_to_an_unverified_account(self):
        register()
        run_mails()
        send(APIClient(), "post", "auth/verify-email/", {"email": EMAIL.upper()})
        assert [message.to for message in run_mails()] == [[EMAIL]] * 2

    @pytest.mark.parametrize("email", [None, "", 7, [], "x", "a\x00@b.example", "\ud800@b.example"])
    def test_malformed_address_is_a_400(self, email):
        answer = send(APIClient(), "post", "auth/verify-email/", {"email": email})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["email"]

    def test_address_gets_at_most_twenty_mails_an_hour(self):
        register()
        for _ in range(25):
            send(APIClient(), "post", "auth/verify-email/", {"email": EMAIL})
        assert len(run_mails()) == 20

    def test_deletion_removes_pending_mails(self):
        register()
        account().delete()
        assert not Job.objects.exists()

    def test_old_request_is_not_mailed(self):
        register()
        with later(days=2):
            run_jobs(SendVerification.name)
        assert mail.outbox == []


class TestPage:
    def test_get_verifies_nothing(self, link):
        answer = APIClient().get(link)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert '<form method="post">' in answer.content.decode()
        assert account().verified_at is None

    def test_password_verifies_and_keeps_everything(self, link, published):
        tokens = log_in().json()
        published.clear()
        assert post_form(APIClient(), link, password=PASSWORD).status_code == 200
        assert account().verified_at is not None
        assert log_in().status_code == 200
        assert refresh_by(APIClient(), tokens["refresh"]).status_code == 200
        assert published[0].action == "email_verified"
        assert published[0].actor_id == account().pk

    def test_button_alone_takes_the_account_over(self, link):
        tokens = log_in().json()
        answer = APIClient().post(link)
        assert answer.status_code == 200
        assert account().verified_at is not None
        assert log_in().status_code == 401
        assert refresh_by(APIClient(), tokens["refresh"]).status_code == 401
        assert not Session.objects.filter(ended_at=None).exists()
        body = {"new_password": NEW_PASSWORD, **query_of(reset_link_in(answer))}
        assert send(APIClient(), "post", "auth/password-reset/confirm/", body).status_code == 200
        assert log_in(NEW_PASSWORD).status_code == 200

    def test_account_that_was_taken_over_gets_reset_mails(self, link):
        APIClient().post(link)
        send(APIClient(), "post", "auth/password-reset/", {"email": EMAIL})
        assert "/reset-password" in run_mails()[-1].body

    def test_wrong_password_verifies_nothing_and_is_recorded(self, link, published):
        published.clear()
        answer = post_form(APIClient(), link, password="wrong")
        assert answer.status_code == 400
        assert "The password is not right." in answer.content.decode()
        assert account().verified_at is None
        assert [event.action for event in published] == ["login_failed"]
        assert post_form(APIClient(), link, password=PASSWORD).status_code == 200

    def test_wrong_passwords_count_in_the_login_throttle(self, link, settings):
        settings.MYOMETRICS_AUTH = {"FAILED_SIGN_IN_LIMIT": 3}
        for _ in range(4):
            post_form(APIClient(), link, password="wrong")
        assert post_form(APIClient(), link, password=PASSWORD).status_code == 400

    @pytest.mark.parametrize("password", ["x\x00", "x" * 300, "\ud83d"])
    def test_malformed_password_is_an_error_page(self, link, password):
        answer = APIClient().post(
            link,
            f"password={password}".encode("utf-8", "surrogatepass"),
            content_type="application/x-www-form-urlencoded",
        )
        assert answer.status_code == 400
        assert account().verified_at is None

    def test_form_that_can_not_be_read_is_an_error_page(self, link):
        answer = APIClient().post(link, b"x", content_type="multipart/form-data")
        assert (answer.status_code, answer["Content-Type"]) == (400, "text/html; charset=utf-8")
        assert account().verified_at is None

    def test_empty_password_does_not_take_the_account_over(self, link, published):
        published.clear()
        answer = post_form(APIClient(), link, password="")
        assert answer.status_code == 400
        assert "This field is required." in answer.content.decode()
        assert account().verified_at is None
        assert (log_in().status_code, len(published)) == (200, 1)

    @pytest.mark.parametrize("form", [{}, {"password": PASSWORD}])
    def test_link_works_once(self, link, form):
        assert post_form(APIClient(), link, **form).status_code == 200
        for answer in (APIClient().get(link), post_form(APIClient(), link, **form)):
            assert answer.status_code == 404
            assert "This did not work" in answer.content.decode()

    def test_link_expires_after_three_days(self, link):
        with later(days=2, hours=23):
            assert APIClient().get(link).status_code == 200
        with later(days=3, minutes=1):
            assert APIClient().get(link).status_code == 404
            assert APIClient().post(link).status_code == 404
        assert account().verified_at is None

    def test_link_to_a_replaced_address_is_refused(self, link, administrator):
        changes = {"email": "other@clinic.example"}
        user_update(actor=administrator, user_id=account().pk, changes=changes, request=None)
        assert APIClient().post(link).status_code == 404

    def test_link_of_an_inactive_user_is_refused(self, link):
        get_user_model().objects.update(is_active=False)
        assert APIClient().post(link).status_code == 404

    @pytest.mark.parametrize("query", ["", "?token=", "?token=x", "?token=a:b:c", "?token=%00"])
    def test_malformed_token_is_an_error_page(self, db, query):
        for method in ("get", "post"):
            answer = getattr(APIClient(), method)(f"/api/auth/verify-email/confirm/{query}")
            assert answer.status_code in (400, 404)
            assert "This did not work" in answer.content.decode()

    def test_account_made_by_others_is_verified_by_the_button_alone(self, doctor):
        send(APIClient(), "post", "auth/verify-email/", {"email": doctor.email})
        link = link_in(run_mails()[-1])
        assert "password" not in APIClient().get(link).content.decode()
        assert APIClient().post(link).status_code == 200
        doctor.refresh_from_db()
        assert doctor.verified_at is not None
        assert doctor.check_password(PASSWORD)

    def test_page_needs_no_csrf_token(self, link):
        client = APIClient(enforce_csrf_checks=True)
        assert post_form(client, link, password=PASSWORD).status_code == 200

    def test_only_post_is_counted_by_user(self, link, settings):
        settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": {"auth": "2/hour"}}
        assert [APIClient().get(link).status_code for _ in range(4)] == [200] * 4
        statuses = [post_form(APIClient(), link, password="x").status_code for _ in range(3)]
        assert statuses == [400, 400, 429]


def reset_link_in(answer):
    return answer.content.decode().split('href="')[1].split('"')[0].replace("&amp;", "&")


@pytest.mark.usefixtures("required")
class TestRequired:
    def test_registration_saves_the_account_and_is_a_403(self):
        answer = register()
        assert answer.status_code == 403
        assert answer.json()["code"] == "email_not_verified"
        assert account().check_password(PASSWORD)
        assert not Session.objects.exists()
        assert len(run_mails()) == 1

    def test_login_is_a_403_after_the_right_password_only(self, published):
        register()
        published.clear()
        answer = log_in()
        assert (answer.status_code, answer.json()["code"]) == (403, "email_not_verified")
        assert log_in("wrong").status_code == 401
        assert [event.action for event in published] == ["login_failed"] * 2

    def test_refused_login_does_not_count_in_the_throttle(self, settings):
        settings.MYOMETRICS_AUTH = {"EMAIL_VERIFICATION": "required", "FAILED_SIGN_IN_LIMIT": 2}
        register()
        for _ in range(4):
            assert log_in().status_code == 403

    def test_verified_account_signs_in_with_its_password(self, link):
        assert post_form(APIClient(), link, password=PASSWORD).status_code == 200
        assert log_in().status_code == 200

    def test_reset_by_mail_verifies(self):
        register()
        send(APIClient(), "post", "auth/password-reset/", {"email": EMAIL})
        body = {"new_password": NEW_PASSWORD, **query_of(link_in(run_mails()[-1]))}
        send(APIClient(), "post", "auth/password-reset/confirm/", body)
        assert log_in(NEW_PASSWORD).status_code == 200

    def test_accounts_made_otherwise_sign_in(self, doctor, sign_in):
        sign_in(doctor)
        get_user_model().objects.update(self_registered=None)
        sign_in(doctor)

    def test_admin_site_says_so_after_the_right_password_only(self):
        register()
        get_user_model().objects.update(is_staff=True)
        texts = {}
        for password in (PASSWORD, "wrong"):
            form = {"username": EMAIL, "password": password}
            texts[password] = Client().post("/admin/login/", form).content.decode()
        assert "Verify your e-mail address first" in texts[PASSWORD]
        assert "Verify your e-mail address first" not in texts["wrong"]


class TestSwitchedOnLater:
    def test_sessions_of_before_continue(self, settings):
        tokens = register().json()
        settings.MYOMETRICS_AUTH = {"EMAIL_VERIFICATION": "required"}
        client = APIClient(HTTP_AUTHORIZATION=f"Bearer {tokens['access']}")
        assert client.get("/api/auth/user/").status_code == 200
        assert refresh_by(client, tokens["refresh"]).status_code == 200
        assert log_in().status_code == 403

    def test_second_step_of_a_login_is_refused(self, settings, clock, sign_in):
        register()
        client = sign_in(account())
        enrol(client)
        clock.shift(60)
        token = log_in().json()["mfa_token"]
        settings.MYOMETRICS_AUTH = {"EMAIL_VERIFICATION": "required"}
        body = {"mfa_token": token, "code": client.app.now()}
        answer = send(APIClient(), "post", "auth/login/mfa/", body)
        assert (answer.status_code, answer.json()["code"]) == (403, "email_not_verified")


class TestCommand:
    @pytest.fixture
    def users(self, make_user):
        register()
        old = make_user("old@clinic.example")
        get_user_model().objects.filter(pk=old.pk).update(
            date_joined=old.date_joined - timedelta(days=400)
        )
        make_user("inactive@clinic.example", is_active=False)
        Job.objects.all().delete()

    def lines(self, capsys, *options):
        call_command("verify_addresses", *options)
        return capsys.readouterr().out.splitlines()

    def test_lists_and_changes_nothing_by_default(self, users, capsys):
        *listed, last = self.lines(capsys)
        assert [line.split("\t")[1] for line in listed] == [EMAIL, "old@clinic.example"]
        assert last == "2 addresses are not verified. Nothing was changed."
        assert not get_user_model().objects.exclude(verified_at=None).exists()

    def test_options_select_users(self, users, capsys):
        assert [line.split("\t")[1:2] for line in self.lines(capsys, "--before", "1y")[:-1]] == [
            ["old@clinic.example"]
        ]
        assert len(self.lines(capsys, "--self-registered")) == 2

    def test_marks_the_selected(self, users, capsys):
        assert self.lines(capsys, "--before", "1y", "--mark-verified") == [
            "1 addresses are marked as verified."
        ]
        verified = get_user_model().objects.exclude(verified_at=None)
        assert [user.email for user in verified] == ["old@clinic.example"]

    def test_mails_the_selected(self, users, capsys):
        assert self.lines(capsys, "--self-registered", "--mail") == ["1 mails are queued."]
        assert [message.to for message in run_mails()] == [[EMAIL]]


def test_link_survives_a_new_secret_key_while_the_old_one_is_listed(link, settings):
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "n" * 50
    assert APIClient().get(link).status_code == 200


def test_tokens_of_other_links_are_refused(doctor):
    with time_machine.travel("2026-03-02T09:00:10+00:00", tick=False):
        token = verification_url(doctor).split("token=")[1]
        for page in ("email/confirm/", "email/undo/"):
            assert APIClient().post(f"/api/auth/{page}?token={token}").status_code == 404
        answer = register(invitation=token)
        assert list(answer.json()["field_errors"]) == ["invitation"]
