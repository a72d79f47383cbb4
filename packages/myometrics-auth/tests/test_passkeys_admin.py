"""Passkeys at the admin site's login and among its pages."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from authenticator import USER_PRESENT, Authenticator
from conftest import PASSWORD, run_mails, send
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient
from test_passkeys import actions, register

from myometrics_auth.models import RecoveryCode, Session, TotpDevice
from myometrics_auth.passkeys.models import Passkey
from myometrics_auth.services.second_factor import recovery_codes_create
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db

HOST = "admin.clinic.example"
FIRST, SECOND = "/admin/login/passkey/", "/admin/login/second-factor/passkey/"


class Browser:
    """A browser at the admin site, under its host."""

    def __init__(self, client):
        self.client = client

    def open(self, path, **options):
        return self.client.get(path, HTTP_HOST=HOST, secure=True, **options)

    def send(self, path, **fields):
        return self.client.post(path, fields, HTTP_HOST=HOST, secure=True)

    def sign_in(self, key, path=FIRST, origin=f"https://{HOST}", **changes):
        options = self.send(f"{path}options/").json()["publicKey"]
        credential = key.get(options, origin=origin, **changes)
        return self.send(path, passkey=json.dumps(credential), next="/admin/")

    @property
    def is_signed_in(self):
        return self.open("/admin/").status_code == 200


@pytest.fixture
def browser(client, settings):
    settings.ALLOWED_HOSTS = [HOST, "testserver"]
    return Browser(client)


@pytest.fixture
def root(make_user):
    return make_user("root@clinic.example", role="admin", is_staff=True, is_superuser=True)


@pytest.fixture
def key(root, sign_in):
    key, answer = register(sign_in(root))
    assert answer.status_code == 201
    return key


def test_login_page_offers_passkeys(browser, key):
    assert b"mm-passkey" in browser.open("/admin/login/").content


def test_passkey_signs_in_alone(browser, key):
    answer = browser.sign_in(key)
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")
    assert browser.is_signed_in
    assert Session.objects.get(browser_key__gt="").second_factor


def test_passkey_is_the_second_factor(browser, key, root):
    answer = browser.send("/admin/login/", username=root.email, password=PASSWORD)
    assert answer["Location"] == "/admin/login/second-factor/"
    assert b"mm-passkey" in browser.open("/admin/login/second-factor/").content
    answer = browser.sign_in(key, SECOND, flags=USER_PRESENT)
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")
    assert browser.is_signed_in


def test_second_step_offers_no_passkey_to_users_without(browser, root):
    RecoveryCode.objects.create(user=root, code_hash="0")
    from myometrics_auth.encryption import encrypt_secret
    from myometrics_auth.models import TotpDevice
    from myometrics_core.times import utc_now

    secret = encrypt_secret("JBSWY3DPEHPK3PXP", owner=root.pk)
    TotpDevice.objects.create(user=root, secret=secret, confirmed_at=utc_now())
    browser.send("/admin/login/", username=root.email, password=PASSWORD)
    assert b"mm-passkey" not in browser.open("/admin/login/second-factor/").content
    assert browser.send(f"{SECOND}options/").status_code == 409


@pytest.mark.parametrize(
    "changes",
    [{"origin": "https://clinic.example"}, {"origin": f"http://{HOST}"}, {"flags": USER_PRESENT}],
)
def test_wrong_response_is_refused(browser, key, changes, published):
    answer = browser.sign_in(key, **changes)
    assert answer.status_code == 200
    assert "The passkey can&#x27;t be used." in answer.content.decode()
    assert not browser.is_signed_in
    assert actions(published)[-1] == "login_failed"


@pytest.mark.parametrize("passkey", ["", "{}", "[", "[" * 100_000, "null", '"\\u0000"'])
def test_odd_response_is_refused(browser, key, passkey):
    assert browser.send(FIRST, passkey=passkey).status_code == 200
    assert not browser.is_signed_in


def test_user_who_is_not_staff_is_refused(browser, doctor, sign_in):
    key, _answer = register(sign_in(doctor))
    assert browser.sign_in(key).status_code == 200
    assert not browser.is_signed_in


def test_second_step_without_a_password_starts_over(browser, key):
    assert browser.send(f"{SECOND}options/").status_code == 401
    options = browser.send(f"{FIRST}options/").json()["publicKey"]
    credential = key.get(options, origin=f"https://{HOST}")
    answer = browser.send(SECOND, passkey=json.dumps(credential))
    assert answer["Location"].startswith("/admin/login/")


def test_policy_is_named_to_the_user(browser, root, sign_in, settings):
    key, _answer = register(sign_in(root), Authenticator(is_synced=True))
    settings.MYOMETRICS_AUTH = {"PASSKEY_POLICY": {"admin": {"synced": False}}}
    answer = browser.sign_in(key)
    assert "Your role may not use a passkey that is synced" in answer.content.decode()
    assert not browser.is_signed_in


@pytest.mark.parametrize(
    "options", [{"HTTP_HOST": "testserver", "secure": True}, {"HTTP_HOST": HOST}]
)
def test_site_outside_of_the_domain_hides_passkeys(browser, key, options):
    page = browser.client.get("/admin/login/", **options)
    assert b"mm-passkey" not in page.content
    assert browser.client.post(f"{FIRST}options/", **options).status_code == 404


def test_administrator_removes_passkeys(browser, key, doctor, sign_in, published):
    register(sign_in(doctor))
    browser.sign_in(key)
    passkey = Passkey.objects.get(user=doctor)
    answer = browser.send(
        f"/admin/myometrics_auth_passkeys/passkey/{passkey.pk}/delete/", post="yes"
    )
    assert answer.status_code == 302
    assert not Passkey.objects.filter(user=doctor).exists()
    assert not RecoveryCode.objects.filter(user=doctor).exists()
    assert published[-1].action == "passkey_removed"
    assert published[-1].resource_id == str(doctor.pk)
    assert sign_in(doctor)


def test_removal_needs_a_recent_sign_in_where_set(browser, key, doctor, sign_in, settings, clock):
    settings.MYOMETRICS_AUTH = {"REAUTHENTICATE_FOR": ["disable_mfa"]}
    register(sign_in(doctor))
    browser.sign_in(key)
    clock.shift(timedelta(minutes=10))
    passkey = Passkey.objects.get(user=doctor)
    path = f"/admin/myometrics_auth_passkeys/passkey/{passkey.pk}/delete/"
    for refused in (
        browser.send(path, post="yes"),
        browser.send(
            "/admin/myometrics_auth_passkeys/passkey/",
            action="delete_selected",
            _selected_action=passkey.pk,
            post="yes",
        ),
    ):
        assert refused["Location"].startswith("/admin/login/reauthentication/?next=")
    assert Passkey.objects.filter(user=doctor).exists()
    browser.send("/admin/login/reauthentication/", password=PASSWORD)
    assert browser.send(path, post="yes").status_code == 302
    assert not Passkey.objects.filter(user=doctor).exists()


class TestReauthentication:
    PAGE = "/admin/login/reauthentication/"

    @pytest.fixture(autouse=True)
    def _late(self, settings, browser, key, clock):
        settings.MYOMETRICS_AUTH = {"REAUTHENTICATE_FOR": ["delete_account"]}
        browser.sign_in(key)
        clock.shift(timedelta(minutes=10))

    def confirm(self, browser, key, **changes):
        options = browser.send(f"{FIRST}options/").json()["publicKey"]
        credential = key.get(options, **{"origin": f"https://{HOST}", **changes})
        return browser.send(f"{self.PAGE}passkey/", passkey=json.dumps(credential), next="/admin/")

    def test_passkey_confirms_the_identity(self, browser, key, doctor):
        path = f"/admin/myometrics_auth/user/{doctor.pk}/delete/"
        assert browser.open(path)["Location"].startswith(self.PAGE)
        assert b"mm-passkey" in browser.open(self.PAGE).content
        assert self.confirm(browser, key)["Location"] == "/admin/"
        assert browser.open(path).status_code == 200

    def test_passkey_of_another_user_is_refused(self, browser, doctor, sign_in, published):
        other, _answer = register(sign_in(doctor))
        answer = self.confirm(browser, other)
        assert "can&#x27;t be used" in answer.content.decode()
        assert Session.objects.get(browser_key__gt="").reauthenticated_at is None
        assert actions(published)[-1] == "login_failed"

    @pytest.mark.parametrize(
        "changes", [{"origin": "https://clinic.example"}, {"flags": USER_PRESENT}]
    )
    def test_wrong_response_is_refused(self, browser, key, changes):
        assert self.confirm(browser, key, **changes).status_code == 200
        assert Session.objects.get(browser_key__gt="").reauthenticated_at is None

    def test_recovery_code_confirms_where_passkeys_are_the_only_factor(self, browser, root):
        code = recovery_codes_create(user=root)[0]
        assert b'name="code"' in browser.open(self.PAGE).content
        assert browser.send(self.PAGE, code=code, next="/admin/")["Location"] == "/admin/"

    def test_passkey_is_not_offered_to_users_without(self, browser, root):
        Passkey.objects.filter(user=root).delete()
        assert b"mm-passkey" not in browser.open(self.PAGE).content

    def test_it_needs_a_sign_in(self, browser):
        browser.client.logout()
        answer = browser.send(f"{self.PAGE}passkey/", passkey="{}")
        assert answer["Location"].startswith("/admin/login/")


def test_action_on_users_removes_passkeys(browser, key, doctor, sign_in):
    register(sign_in(doctor))
    browser.sign_in(key)
    browser.send(
        "/admin/myometrics_auth/user/", action="remove_second_factor", _selected_action=doctor.pk
    )
    assert not Passkey.objects.filter(user=doctor).exists()


def by_the_passkey(browser, user):
    passkey = Passkey.objects.get(user=user)
    browser.send(f"/admin/myometrics_auth_passkeys/passkey/{passkey.pk}/delete/", post="yes")


def by_the_user(browser, user):
    browser.send(
        "/admin/myometrics_auth/user/", action="remove_second_factor", _selected_action=user.pk
    )


@pytest.mark.parametrize("remove", [by_the_passkey, by_the_user])
def test_user_whose_only_credential_is_removed_gets_reset_mails(
    browser, key, doctor, sign_in, remove
):
    register(sign_in(doctor))
    get_user_model().objects.filter(pk=doctor.pk).update(password="!unusable")
    browser.sign_in(key)
    remove(browser, doctor)
    assert not Passkey.objects.filter(user=doctor).exists()
    send(APIClient(), "post", "auth/password-reset/", {"email": doctor.email})
    assert [message.to for message in run_mails()] == [[doctor.email]]


def test_removal_of_an_app_gives_no_password_to_users_of_other_logins(browser, key, doctor):
    TotpDevice.objects.create(user=doctor, secret="encrypted", confirmed_at=utc_now())
    get_user_model().objects.filter(pk=doctor.pk).update(password="!unusable")
    browser.sign_in(key)
    by_the_user(browser, doctor)
    doctor.refresh_from_db()
    assert (TotpDevice.objects.count(), doctor.has_usable_password()) == (0, False)


def test_admin_log_keeps_no_name_of_a_removed_passkey(browser, key, doctor, sign_in):
    register(sign_in(doctor))
    Passkey.objects.filter(user=doctor).update(name="Jane Smith's phone")
    browser.sign_in(key)
    by_the_passkey(browser, doctor)
    assert "Jane" not in LogEntry.objects.get().object_repr


def test_passkey_pages_show_no_key(browser, key):
    browser.sign_in(key)
    passkey = Passkey.objects.get()
    listed = browser.open("/admin/myometrics_auth_passkeys/passkey/")
    page = browser.open(f"/admin/myometrics_auth_passkeys/passkey/{passkey.pk}/change/")
    assert (listed.status_code, page.status_code) == (200, 200)
    assert "public_key" not in page.content.decode()
