"""Security notices: who gets which mail, and the page that ends all sessions."""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import uuid4

import pytest
from conftest import (
    NEW_PASSWORD,
    PASSWORD,
    later,
    link_in,
    query_of,
    refresh_by,
    run_mails,
    send,
)
from django.contrib.auth import get_user_model
from django.core import mail
from django.db import transaction
from django.test import Client

from myometrics_auth.federation.models import Identity
from myometrics_auth.jobs import SendPasswordReset, SendSecurityNotice
from myometrics_auth.models import Session, UsedToken
from myometrics_auth.passkeys.models import Passkey
from myometrics_auth.services.notices import NOTICES, notice_send
from myometrics_auth.services.users import user_update
from myometrics_core.jobs import Job, run_jobs
from myometrics_core.times import utc_now

KIND = SendSecurityNotice.name
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """Let the next run follow a failure of the mail server at once."""
    monkeypatch.setattr(SendSecurityNotice, "pause", timedelta(0))


def sent():
    """Run the jobs; return the mails since the last call."""
    mail.outbox.clear()
    run_jobs(KIND)
    return list(mail.outbox)


def pending():
    """The names of the pending notices, in order."""
    jobs = Job.objects.filter(kind=KIND).order_by("pk")
    return [job.payload["notice"] for job in jobs]


def page_of(message):
    """The path and query of the page in a notice."""
    return re.search(r"https://api.clinic.example(/\S+)", message.body).group(1)


def make_passkey(user, name, **fields):
    return Passkey.objects.create(
        user=user,
        name=name,
        credential_id=name,
        public_key=b"",
        aaguid=uuid4(),
        is_synced=False,
        **fields,
    )


@pytest.fixture
def page(doctor):
    """The page of a notice to the doctor."""
    notice_send(user=doctor, notice="password_changed", request=None)
    [message] = sent()
    return page_of(message)


def change_password(client):
    body = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert send(client, "post", "auth/change-password/", body).status_code == 200


class TestMail:
    def test_change_of_the_password_is_mailed(self, doctor, sign_in):
        change_password(sign_in(doctor, HTTP_USER_AGENT=FIREFOX))
        [message] = sent()
        assert (message.to, message.subject) == (
            [doctor.email],
            "MyoMetrics: Your password was changed",
        )
        assert "Device: Firefox, Windows\n" in message.body
        assert message.extra_headers["Auto-Submitted"] == "auto-generated"
        assert message.extra_headers["Message-ID"].startswith("<security-notice-")
        [(html, kind)] = message.alternatives
        assert (kind, page_of(message).replace("&", "&amp;") in html) == ("text/html", True)

    def test_mail_has_no_text_of_the_client(self, make_user, sign_in):
        user = make_user(first_name="Visit", clinic_name="evil.example")
        change_password(
            sign_in(user, HTTP_USER_AGENT="Firefox/1 https://evil.example", REMOTE_ADDR="192.0.2.7")
        )
        [message] = sent()
        text = message.subject + message.body + message.alternatives[0][0]
        for part in ("Visit", "evil.example", "192.0.2.7"):
            assert part not in text

    @pytest.mark.parametrize("name", NOTICES)
    def test_every_notice_has_a_german_text(self, doctor, settings, name):
        settings.MYOMETRICS_AUTH = {"RECIPIENT_LANGUAGE": lambda user: "de"}
        notice_send(user=doctor, notice=name, request=None)
        [message] = sent()
        assert str(NOTICES[name]) not in message.body
        assert "keine weiteren Schritte" in message.body

    def test_unknown_notice_is_an_error(self, doctor):
        with pytest.raises(LookupError, match="no_such"):
            notice_send(user=doctor, notice="no_such", request=None)

    def test_notice_goes_to_the_given_address(self, doctor):
        notice_send(user=doctor, notice="email_changed", request=None, address="old@x.example")
        assert [message.to for message in sent()] == [["old@x.example"]]

    def test_notices_can_be_switched_off(self, doctor, sign_in, settings):
        settings.MYOMETRICS_AUTH = {"SECURITY_NOTICES": False}
        change_password(sign_in(doctor))
        assert pending() == []

    def test_rolled_back_change_is_not_mailed(self, doctor):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            notice_send(user=doctor, notice="password_changed", request=None)
            raise ZeroDivisionError
        assert pending() == []

    def test_deactivated_users_get_no_mail(self, doctor):
        notice_send(user=doctor, notice="password_changed", request=None)
        get_user_model().objects.update(is_active=False)
        assert (sent(), pending()) == ([], [])

    @pytest.mark.parametrize("delete", ["erase", "delete"])
    def test_deletion_of_a_user_removes_pending_notices(self, doctor, make_user, sign_in, delete):
        client = sign_in(doctor)
        for user in (doctor, make_user()):
            notice_send(user=user, notice="email_changed", request=None, address="old@x.example")
        if delete == "erase":
            assert client.delete("/api/users/me/").status_code == 204
        else:
            doctor.delete()
        assert len(pending()) == 1

    def test_one_user_gets_at_most_twenty_notices_an_hour(self, doctor, make_user):
        for user in [doctor] * 25 + [make_user()]:
            notice_send(user=user, notice="password_changed", request=None)
        assert len(sent()) == 21

    def test_notice_that_can_not_be_sent_is_deleted(self, doctor, mail_server, caplog):
        mail_server.at_recipient = f"550 5.1.1 <{doctor.email}> unknown here"
        notice_send(user=doctor, notice="password_changed", request=None)
        with caplog.at_level("DEBUG"):
            run_jobs(KIND)
        records = [record for record in caplog.records if record.name != "mail.log"]
        assert doctor.email not in "\n".join(map(caplog.handler.format, records))
        assert not Job.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_workers_at_once_send_one_mail(self, doctor, run_concurrently):
        notice_send(user=doctor, notice="password_changed", request=None)
        assert sorted(run_concurrently(lambda: run_jobs(KIND), times=8)) == [0] * 7 + [1]
        assert len(mail.outbox) == 1


class TestCauses:
    def test_change_of_the_password(self, doctor, sign_in):
        client = sign_in(doctor)
        body = {"old_password": "wrong", "new_password": NEW_PASSWORD}
        assert send(client, "post", "auth/change-password/", body).status_code == 400
        assert pending() == []
        change_password(client)
        assert pending() == ["password_changed"]

    def test_reset_of_the_password(self, api, doctor):
        send(api, "post", "auth/password-reset/", {"email": doctor.email})
        run_jobs(SendPasswordReset.name)
        link = re.search(r"https://\S+", mail.outbox[-1].body).group()
        body = {**query_of(link), "new_password": NEW_PASSWORD}
        assert send(api, "post", "auth/password-reset/confirm/", body).status_code == 200
        assert send(api, "post", "auth/password-reset/confirm/", body).status_code == 400
        assert pending() == ["password_reset"]

    def test_second_factor_and_recovery_codes(self, enrolled, clock):
        assert pending() == ["second_factor_enabled"]
        for path in ("recovery-codes", "disable"):
            body = {"password": PASSWORD, "code": enrolled.app.at(utc_now())}
            assert send(enrolled, "post", f"auth/mfa/{path}/", body).status_code < 300
            clock.shift(60)
        assert pending()[1:] == ["recovery_codes_replaced", "second_factor_disabled"]

    def test_recovery_code_at_sign_in(self, enrolled, doctor, api):
        for code in (enrolled.app.at(utc_now()), enrolled.recovery_codes[0]):
            body = {"email": doctor.email, "password": PASSWORD}
            token = send(api, "post", "auth/login/", body).json()["mfa_token"]
            body = {"mfa_token": token, "code": code}
            assert send(api, "post", "auth/login/mfa/", body).status_code == 200
        assert pending() == ["second_factor_enabled", "recovery_code_used"]

    def test_changes_by_an_administrator(self, enrolled, doctor, make_user):
        root = make_user("root@clinic.example", is_staff=True, is_superuser=True, role="admin")
        browser = Client()
        browser.force_login(root)
        path = f"/admin/myometrics_auth/user/{doctor.pk}"
        form = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
        assert browser.post(f"{path}/password/", form).status_code == 302
        action = {"action": "remove_second_factor", "_selected_action": [doctor.pk]}
        assert browser.post("/admin/myometrics_auth/user/", action).status_code == 302
        assert pending()[1:] == ["password_set", "second_factor_removed"]
        assert {job.payload["user"] for job in Job.objects.filter(kind=KIND)} == {doctor.pk}

    def test_change_of_the_address_by_an_administrator(self, doctor, administrator):
        changes = {"email": "new@clinic.example"}
        user_update(actor=administrator, user_id=doctor.pk, changes=changes, request=None)
        assert {tuple(message.to) for message in sent()} == {
            ("doctor@clinic.example",),
            ("new@clinic.example",),
        }
        pages = [page_of(message) for message in mail.outbox]
        assert [Client().get(page).status_code for page in pages] == [200, 200]
        changes = {"email": "newer@clinic.example"}
        user_update(actor=administrator, user_id=doctor.pk, changes=changes, request=None)
        assert sorted(Client().get(page).status_code for page in pages) == [200, 404]


class TestPage:
    def test_get_changes_nothing(self, page, doctor, sign_in, api):
        sign_in(doctor)
        answer = api.get(page)
        assert (answer.status_code, "<button" in answer.content.decode()) == (200, True)
        assert answer["Cache-Control"] == "private, no-store"
        assert "Set-Cookie" not in answer
        assert Session.objects.live().count() == 1
        assert not Job.objects.filter(kind=SendPasswordReset.name).exists()

    def test_post_ends_all_sessions_and_mails_a_reset(self, page, doctor, make_user, sign_in, api):
        doctor.is_staff = True
        doctor.save()
        client, other = sign_in(doctor), sign_in(make_user())
        browser = Client()
        browser.post("/admin/login/", {"username": doctor.email, "password": PASSWORD})
        assert browser.get("/whoami/").content.decode() == doctor.email
        answer = api.post(page)
        assert (answer.status_code, "<button" in answer.content.decode()) == (200, False)
        assert refresh_by(api, client.tokens["refresh"]).status_code == 401
        assert refresh_by(api, other.tokens["refresh"]).status_code == 200
        assert browser.get("/admin/").status_code == 302
        assert run_jobs(SendPasswordReset.name) == 1
        assert mail.outbox[-1].subject == "Reset your password"

    def test_post_removes_recent_identities_and_passkeys(self, page, doctor, api, published):
        def add(name, days):
            at = utc_now() - timedelta(days=days)
            Identity.objects.create(user=doctor, issuer="i", subject=name, created_at=at)
            make_passkey(doctor, name, created_at=at)

        add("old", 9)
        add("new", 1)
        api.post(page)
        assert [one.subject for one in Identity.objects.all()] == ["old"]
        assert [one.name for one in Passkey.objects.all()] == ["old"]
        Identity.objects.all().delete()
        Passkey.objects.all().delete()
        add("new", 1)
        published.clear()
        notice_send(user=doctor, notice="passkey_added", request=None)
        api.post(page_of(sent()[0]))
        assert [event.action for event in published] == ["second_factor_disabled"]

    def test_user_without_another_way_in_gets_a_password_by_mail(self, page, doctor, api):
        get_user_model().objects.filter(pk=doctor.pk).update(password="!unusable")
        Identity.objects.create(user=doctor, issuer="i", subject="s")
        assert api.post(page).status_code == 200
        assert not Identity.objects.exists()
        mail.outbox.clear()
        run_jobs(SendPasswordReset.name)
        [message] = mail.outbox
        link = query_of(re.search(r"https?://\S+", message.body).group())
        body = {**link, "new_password": NEW_PASSWORD}
        assert send(api, "post", "auth/password-reset/confirm/", body).status_code == 200

    def test_post_cancels_a_pending_change_of_the_address(self, page, doctor, sign_in, api):
        client = sign_in(doctor)
        get_user_model().objects.filter(pk=doctor.pk).update(password="!unusable")
        body = {"email": "thief@evil.example"}
        assert send(client, "post", "auth/email/", body).status_code == 202
        link = link_in(run_mails()[-1])
        api.post(page)
        assert api.post(link).status_code == 404
        assert get_user_model().objects.get().email == doctor.email

    def test_second_post_changes_nothing(self, page, doctor, sign_in, api):
        assert api.post(page).status_code == 200
        sign_in(doctor)
        assert api.post(page).status_code == 200
        assert Session.objects.live().count() == 1
        assert Job.objects.filter(kind=SendPasswordReset.name).count() == 1

    @pytest.mark.django_db(transaction=True)
    def test_posts_at_once_mail_one_reset(self, page, doctor, sign_in, run_concurrently):
        sign_in(doctor)
        answers = run_concurrently(lambda: Client().post(page).status_code, times=8)
        assert set(answers) == {200}
        assert Job.objects.filter(kind=SendPasswordReset.name).count() == 1
        assert UsedToken.objects.count() == 1

    def test_link_works_for_seven_days(self, page, api):
        with later(days=6, hours=23):
            assert api.get(page).status_code == 200
        with later(days=7, hours=1):
            assert api.get(page).status_code == 404
            assert api.post(page).status_code == 404

    @pytest.mark.parametrize("token", ["", "x", "a:b:c", "\0", "x" * 2000, "é"])
    def test_other_tokens_are_refused_as_html(self, doctor, api, token):
        for method in (api.get, api.post):
            answer = method(f"/api/auth/secure-account/?token={token}")
            assert answer.status_code in (400, 404)
            assert answer["Content-Type"] == "text/html; charset=utf-8"

    def test_link_of_a_deleted_user_is_refused(self, page, doctor, api):
        doctor.delete()
        assert api.get(page).status_code == 404
        assert api.post(page).status_code == 404

    def test_page_is_in_the_users_language(self, page, api, settings):
        settings.MYOMETRICS_AUTH = {"RECIPIENT_LANGUAGE": lambda user: "de"}
        assert "Alle Sitzungen beenden" in api.get(page).content.decode()
