"""Sensitive operations need a recent sign-in (``REAUTHENTICATE_FOR``)."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta

import pytest
from conftest import PASSWORD, enrol, send
from django.contrib.auth import get_user_model
from django.test import Client
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied, ValidationError
from rest_framework.test import APIClient
from specified import ERROR_KEYS

from myometrics_auth.conf import REAUTHENTICATED_OPERATIONS
from myometrics_auth.models import RecoveryCode, Session, SignInFailures, TotpDevice
from myometrics_auth.services import reauthentication
from myometrics_auth.services.reauthentication import (
    ReauthenticationMethod,
    recent_sign_in_require,
    register_reauthentication_method,
    session_reauthenticate,
)
from myometrics_core.api import rate_limiter
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db

TEN_MINUTES = timedelta(minutes=10)
PAGE = "/admin/login/reauthentication/"


@pytest.fixture(autouse=True)
def _required(settings):
    settings.MYOMETRICS_AUTH = {
        "REAUTHENTICATE_FOR": list(REAUTHENTICATED_OPERATIONS),
        "ACCESS_TOKEN_LIFETIME": timedelta(hours=1),
    }


@pytest.fixture
def root(db):
    return get_user_model().objects.create_superuser("root@clinic.example", PASSWORD)


@pytest.fixture
def browser(clock, root):
    """A browser in which ``root`` signed in to the admin site ten minutes ago."""
    browser = Client()
    answer = browser.post("/admin/login/", {"username": root.email, "password": PASSWORD})
    assert answer.status_code == 302
    clock.shift(TEN_MINUTES)
    return browser


def reauthenticate(client, **proof):
    return send(client, "post", "auth/reauthenticate/", proof)


def needs_reauthentication(answer):
    return (answer.status_code, answer.json().get("code")) == (403, "reauthentication_required")


OPERATIONS = {
    "delete_account": lambda client: client.delete("/api/users/me/"),
    "disable_mfa": lambda client: send(
        client, "post", "auth/mfa/disable/", {"password": PASSWORD, "code": client.spare}
    ),
    "disable_mfa, recovery codes": lambda client: send(
        client, "post", "auth/mfa/recovery-codes/", {"password": PASSWORD, "code": client.spare}
    ),
    "export": lambda client: client.get("/api/users/me/export/"),
}
"""Operation → a request for it."""


class TestOperations:
    @pytest.fixture
    def client(self, clock, enrolled):
        enrolled.spare = enrolled.recovery_codes[5]
        return enrolled

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_is_refused_ten_minutes_after_the_sign_in(self, clock, client, name):
        clock.shift(TEN_MINUTES - timedelta(seconds=60))
        answer = OPERATIONS[name](client)
        assert needs_reauthentication(answer)
        assert set(answer.json()) == ERROR_KEYS
        assert get_user_model().objects.exists()
        assert RecoveryCode.objects.count() == 10

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_is_accepted_just_before(self, clock, client, name):
        clock.shift(TEN_MINUTES - timedelta(seconds=61))
        assert OPERATIONS[name](client).status_code in {200, 204}

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_is_accepted_for_ten_minutes_after_reauthentication(self, clock, client, name):
        clock.shift(TEN_MINUTES)
        answer = reauthenticate(client, password=PASSWORD)
        assert (answer.status_code, answer.json()) == (200, {"detail": "Identity confirmed"})
        clock.shift(TEN_MINUTES)
        assert needs_reauthentication(OPERATIONS[name](client))
        assert reauthenticate(client, password=PASSWORD).status_code == 200
        clock.shift(TEN_MINUTES - timedelta(seconds=1))
        assert OPERATIONS[name](client).status_code in {200, 204}

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_is_unchanged_unless_it_is_listed(self, clock, client, settings, name):
        others = [one for one in REAUTHENTICATED_OPERATIONS if one != name.partition(",")[0]]
        settings.MYOMETRICS_AUTH = {"REAUTHENTICATE_FOR": others}
        clock.shift(TEN_MINUTES)
        assert OPERATIONS[name](client).status_code in {200, 204}

    def test_administrator_deletes_users_only_after_a_recent_sign_in(
        self, clock, administrator, make_user, sign_in
    ):
        client, path = sign_in(administrator), f"/api/users/{make_user().pk}/"
        clock.shift(TEN_MINUTES)
        assert needs_reauthentication(client.delete(path))
        reauthenticate(client, password=PASSWORD)
        assert client.delete(path).status_code == 204

    def test_refused_exports_are_not_the_two_of_an_hour(self, clock, client, settings):
        limits = {"auth": None, "api": "3/hour", "export": "2/hour"}
        settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": limits}
        rate_limiter.reset()
        clock.shift(TEN_MINUTES)
        answers = [OPERATIONS["export"](client).status_code for _ in range(4)]
        assert answers == [403, 403, 403, 429]
        reauthenticate(client, password=PASSWORD)
        answers = [OPERATIONS["export"](client).status_code for _ in range(3)]
        assert answers == [200, 200, 429]

    def test_reauthentication_is_of_one_session(self, clock, doctor, sign_in):
        client, other = sign_in(doctor), sign_in(doctor)
        clock.shift(TEN_MINUTES)
        assert reauthenticate(client, password=PASSWORD).status_code == 200
        assert needs_reauthentication(other.delete("/api/users/me/"))

    def test_refresh_is_no_sign_in(self, clock, doctor, sign_in):
        client = sign_in(doctor)
        clock.shift(TEN_MINUTES)
        send(client, "post", "auth/token/refresh/", {"refresh": client.tokens["refresh"]})
        assert needs_reauthentication(client.delete("/api/users/me/"))

    def test_caller_without_a_session_is_refused(self, doctor, settings):
        with pytest.raises(PermissionDenied) as refusal:
            recent_sign_in_require(session=None, operation="export")
        assert refusal.value.get_codes() == "reauthentication_required"
        settings.MYOMETRICS_AUTH = {}
        recent_sign_in_require(session=None, operation="export")

    def test_user_without_password_changes_the_address_only_after_a_sign_in(
        self, clock, doctor, sign_in, settings
    ):
        settings.MYOMETRICS_AUTH = {"ACCESS_TOKEN_LIFETIME": timedelta(hours=1)}
        client = sign_in(doctor)
        get_user_model().objects.filter(pk=doctor.pk).update(password="!unusable")
        body = {"email": "new@clinic.example"}
        assert send(client, "post", "auth/email/", body).status_code == 202
        clock.shift(TEN_MINUTES)
        assert needs_reauthentication(send(client, "post", "auth/email/", body))
        assert client.get("/api/users/me/export/").status_code == 200

    def test_user_of_the_sites_own_login_needs_a_password_for_it(self, doctor, settings):
        settings.MYOMETRICS_AUTH = {}
        get_user_model().objects.filter(pk=doctor.pk).update(password="!unusable")
        doctor.refresh_from_db()
        client = APIClient()
        client.force_authenticate(doctor)
        body = {"email": "new@clinic.example"}
        assert needs_reauthentication(send(client, "post", "auth/email/", body))


class TestReauthentication:
    @pytest.fixture
    def client(self, clock, doctor, sign_in):
        client = sign_in(doctor)
        clock.shift(TEN_MINUTES)
        return client

    def test_by_code_of_the_app_or_recovery_code(self, clock, enrolled):
        clock.shift(TEN_MINUTES)
        for code in (enrolled.app.at(utc_now()), enrolled.recovery_codes[0]):
            Session.objects.update(reauthenticated_at=None)
            assert reauthenticate(enrolled, code=code).status_code == 200
            assert Session.objects.get().reauthenticated_at == utc_now()
            assert reauthenticate(enrolled, code=code).status_code == 400  # works once

    @pytest.mark.parametrize("proof", [{"password": "wrong"}, {"code": "000000"}])
    def test_wrong_proof_is_a_400_that_counts_and_is_recorded(
        self, client, doctor, published, proof
    ):
        published.clear()
        answer = reauthenticate(client, **proof)
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == list(proof)
        assert [(event.action, event.actor_id) for event in published] == [
            ("login_failed", doctor.pk)
        ]
        assert SignInFailures.objects.get().failures == 1
        assert needs_reauthentication(client.delete("/api/users/me/"))

    def test_correct_password_above_the_limit_is_refused_like_a_wrong_one(self, client):
        for _ in range(20):
            wrong = reauthenticate(client, password="wrong")
        right = reauthenticate(client, password=PASSWORD)
        assert right.status_code == wrong.status_code == 400
        assert right.json() == wrong.json()
        assert Session.objects.get().reauthenticated_at is None

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"password": PASSWORD, "code": "000000"},
            {"other": "x"},
            {"password": ""},
            {"password": None},
            {"password": 7},
            {"password": [PASSWORD]},
            {"password": {"x": 1}},
            {"password": "x" * 257},
            {"password": "x\x00"},
            {"password": "\ud800"},
            {"code": "x" * 33},
            {"code": {}},
            {"code": True},
            [],
            "x",
            None,
        ],
    )
    def test_any_other_body_is_a_400_and_no_attempt(self, client, published, body):
        published.clear()
        answer = send(client, "post", "auth/reauthenticate/", body)
        assert answer.status_code == 400
        assert set(answer.json()) == ERROR_KEYS
        assert published == []
        assert Session.objects.get().reauthenticated_at is None

    def test_needs_a_token(self, api):
        assert reauthenticate(api, password=PASSWORD).status_code == 401

    def test_counts_in_a_bucket_of_its_own(self, client, settings):
        limits = {"auth": "5/hour", "api": "100/hour", "export": "2/hour"}
        settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": limits}
        rate_limiter.reset()
        answers = [reauthenticate(client, password="wrong") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [400] * 5 + [429]
        assert send(client, "post", "auth/mfa/enrol/", {"password": PASSWORD}).status_code == 201

    def test_session_that_ends_concurrently_is_not_reauthenticated(self, client, doctor):
        session = Session.objects.get()
        Session.objects.all().end()
        with pytest.raises(AuthenticationFailed):
            session_reauthenticate(
                user=doctor, session=session, proof={"password": PASSWORD}, request=None
            )
        assert Session.objects.get().reauthenticated_at is None

    def test_caller_without_a_session_is_refused(self, doctor, published):
        with pytest.raises(PermissionDenied) as refusal:
            session_reauthenticate(
                user=doctor, session=None, proof={"password": PASSWORD}, request=None
            )
        assert refusal.value.get_codes() == "reauthentication_required"

    def test_opt_in_app_registers_a_method(self, client, doctor, monkeypatch):
        class Badge(ReauthenticationMethod):
            name = "badge"

            def field(self):
                return serializers.DictField(required=False)

            def verify(self, *, user, value, request):
                if (user, value) != (doctor, {"number": 7}):
                    raise ValidationError({"badge": ["The badge is not right."]})

        monkeypatch.setattr(reauthentication, "_methods", dict(reauthentication._methods))
        register_reauthentication_method(Badge())
        answer = reauthenticate(client, badge={"number": 6})
        assert (answer.status_code, list(answer.json()["field_errors"])) == (400, ["badge"])
        assert reauthenticate(client, badge={"number": 7}).status_code == 200
        assert client.delete("/api/users/me/").status_code == 204


@pytest.mark.django_db(transaction=True)
def test_concurrent_wrong_passwords_are_all_counted(clock, doctor, sign_in, run_concurrently):
    header = f"Bearer {sign_in(doctor).tokens['access']}"
    answers = run_concurrently(
        lambda: reauthenticate(APIClient(HTTP_AUTHORIZATION=header), password="wrong"), times=20
    )
    assert Counter(answer.status_code for answer in answers) == {400: 20}
    assert SignInFailures.objects.get().failures == 20


@pytest.mark.django_db(transaction=True)
def test_one_code_reauthenticates_one_of_concurrent_requests(
    clock, doctor, sign_in, run_concurrently
):
    client = sign_in(doctor)
    enrol(client)
    clock.shift(60)
    header, code = f"Bearer {client.tokens['access']}", client.app.at(utc_now())
    answers = run_concurrently(
        lambda: reauthenticate(APIClient(HTTP_AUTHORIZATION=header), code=code), times=8
    )
    assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 7}


class TestAdminSite:
    """The same for the pages of the admin site."""

    def change_form(self, browser, user):
        """The fields of the form of ``user``, as the browser has them."""
        page = browser.get(f"/admin/myometrics_auth/user/{user.pk}/change/")
        form = page.context["adminform"].form
        values = {name: form.initial.get(name) for name in form.fields if name != "password"}
        given = {name: value for name, value in values.items() if value not in (None, False, [])}
        return {name: "on" if value is True else value for name, value in given.items()}

    def confirm(self, browser, path=PAGE, **form):
        return browser.post(path, form or {"password": PASSWORD})

    def test_deletion_asks_for_reauthentication_and_returns(self, browser, doctor):
        path = f"/admin/myometrics_auth/user/{doctor.pk}/delete/"
        answer = browser.get(path)
        page = answer["Location"]
        assert page.startswith(f"{PAGE}?next=%2Fadmin%2Fmyometrics_auth%2Fuser%2F")
        assert browser.post(path, {"post": "yes"})["Location"] == page
        assert get_user_model().objects.filter(pk=doctor.pk).exists()
        shown = browser.get(page)
        assert shown.status_code == 200
        assert "no-store" in shown["Cache-Control"]
        assert "Confirm your identity" in shown.content.decode()
        assert 'name="code"' not in shown.content.decode()
        assert self.confirm(browser, page)["Location"] == path
        assert browser.get(path).status_code == 200
        assert browser.post(path, {"post": "yes"}).status_code == 302
        assert not get_user_model().objects.filter(pk=doctor.pk).exists()

    @pytest.mark.parametrize("action", ["delete_selected", "remove_second_factor"])
    def test_action_asks_for_reauthentication(self, browser, doctor, action):
        TotpDevice.objects.create(user=doctor, secret="x", confirmed_at=utc_now())
        path = "/admin/myometrics_auth/user/"
        form = {"action": action, "_selected_action": [doctor.pk], "post": "yes"}
        answer = browser.post(path, form)
        assert answer["Location"] == f"{PAGE}?next=%2Fadmin%2Fmyometrics_auth%2Fuser%2F"
        assert TotpDevice.objects.exists()
        assert "Nothing was changed yet" in browser.get(answer["Location"]).content.decode()
        assert self.confirm(browser, answer["Location"])["Location"] == path
        browser.post(path, form)
        assert not TotpDevice.objects.exists()

    def test_change_of_address_asks_for_reauthentication(self, browser, doctor):
        path = f"/admin/myometrics_auth/user/{doctor.pk}/change/"
        form = {**self.change_form(browser, doctor), "email": "new@clinic.example"}
        answer = browser.post(path, form)
        assert answer["Location"].startswith(PAGE)
        doctor.refresh_from_db()
        assert doctor.email == "doctor@clinic.example"
        self.confirm(browser)
        assert browser.post(path, form)["Location"] == "/admin/myometrics_auth/user/"
        doctor.refresh_from_db()
        assert doctor.email == "new@clinic.example"

    def test_other_changes_do_not(self, browser, doctor):
        path = f"/admin/myometrics_auth/user/{doctor.pk}/change/"
        form = {**self.change_form(browser, doctor), "first_name": "Joan"}
        assert browser.post(path, form)["Location"] == "/admin/myometrics_auth/user/"

    def test_nothing_changes_unless_it_is_listed(self, browser, doctor, settings):
        settings.MYOMETRICS_AUTH = {}
        path = f"/admin/myometrics_auth/user/{doctor.pk}/delete/"
        assert browser.get(path).status_code == 200
        assert browser.post(path, {"post": "yes"}).status_code == 302
        assert not get_user_model().objects.filter(pk=doctor.pk).exists()

    def test_wrong_password_counts_and_is_recorded(self, browser, root, published):
        published.clear()
        answer = self.confirm(browser, password="wrong")
        assert answer.status_code == 200
        assert "The password is not right." in answer.content.decode()
        assert "wrong" not in re.sub(r"errornote|class=\S+", "", answer.content.decode())
        assert [event.action for event in published] == ["login_failed"]
        assert SignInFailures.objects.get().failures == 1
        assert Session.objects.get().reauthenticated_at is None
        assert "Enter your password" in self.confirm(browser, password="").content.decode()

    def test_code_of_the_second_factor_confirms(self, clock, root, sign_in):
        client = sign_in(root)
        enrol(client)
        clock.shift(60)
        browser = Client()
        browser.post("/admin/login/", {"username": root.email, "password": PASSWORD})
        browser.post("/admin/login/second-factor/", {"code": client.app.at(utc_now())})
        clock.shift(TEN_MINUTES)
        assert 'name="code"' in browser.get(PAGE).content.decode()
        assert "The code is not right." in self.confirm(browser, code="000000").content.decode()
        assert self.confirm(browser, code=client.app.at(utc_now()))["Location"] == "/admin/"
        session = Session.objects.get(browser_key__gt="")
        assert session.reauthenticated_at == utc_now()

    def test_user_without_password_has_to_sign_in_again(self, browser, root):
        get_user_model().objects.filter(pk=root.pk).update(password="!")
        page = browser.get(PAGE)
        if page.status_code == 200:  # Django signs out a browser whose password changed
            assert "sign in again" in page.content.decode()
        else:
            assert page["Location"].startswith("/admin/login/")

    def test_next_redirects_only_within_this_site(self, browser):
        answer = self.confirm(browser, f"{PAGE}?next=https://evil.example/")
        assert answer["Location"] == "/admin/"

    def test_posts_count_by_user(self, browser, settings):
        limits = {"auth": "5/hour", "api": "100/hour", "export": "2/hour"}
        settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": limits}
        rate_limiter.reset()
        answers = [self.confirm(browser, password="wrong").status_code for _ in range(6)]
        assert answers == [200] * 5 + [429]

    def test_page_needs_a_sign_in_through_auth(self, root):
        browser = Client()
        assert browser.get(PAGE)["Location"] == "/admin/login/"
        browser.force_login(root)
        assert browser.get(PAGE)["Location"] == "/admin/login/"

    def test_browser_without_a_session_is_refused(self, root, doctor):
        browser = Client()
        browser.force_login(root)
        path = f"/admin/myometrics_auth/user/{doctor.pk}/delete/"
        assert browser.get(path).status_code == 403
        assert browser.post(path, {"post": "yes"}).status_code == 403
        assert get_user_model().objects.filter(pk=doctor.pk).exists()
