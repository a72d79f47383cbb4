"""The admin site signs in through auth: the same checks, entries and sessions as the API."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import django
import pyotp
import pytest
from conftest import NEW_PASSWORD, PASSWORD, enrol, later, send
from django.contrib import admin
from django.contrib.auth import BACKEND_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from myometrics_auth.admin_site import AuthAdminSite, use_auth_sign_in
from myometrics_auth.encryption import encrypt_secret
from myometrics_auth.models import RecoveryCode, Session, SignInFailures, TotpDevice
from myometrics_auth.views.admin_login import _qr_code_svg
from myometrics_core.api import rate_limiter
from myometrics_core.times import utc_now
from myometrics_testing.walkthrough import blocks_in, section

pytestmark = pytest.mark.django_db

LOGIN = "/admin/login/"
SECOND_FACTOR = "/admin/login/second-factor/"
ENROLMENT = "/admin/login/enrolment/"
GUIDE = Path(__file__).parents[3] / "docs" / "auth" / "guide.md"
INVALID = "Please enter the correct"


@pytest.fixture
def root(db):
    return get_user_model().objects.create_superuser("root@clinic.example", PASSWORD)


@pytest.fixture
def browser():
    return Client()


@pytest.fixture
def signed_in(root, browser):
    """A browser in which ``root`` has signed in to the admin site."""
    assert give_password(browser, root).status_code == 302
    return browser


@pytest.fixture
def app(clock, root, sign_in):
    """The authenticator app of ``root``, who has a second factor."""
    client = sign_in(root)
    enrol(client)
    clock.shift(60)
    client.app.recovery_codes = client.recovery_codes
    return client.app


def give_password(browser, user, password=PASSWORD, path=LOGIN, **more):
    email = getattr(user, "email", user)
    return browser.post(path, {"username": email, "password": password, **more})


def give_code(browser, code, path=SECOND_FACTOR):
    return browser.post(path, {"code": code})


def is_signed_in(browser):
    return browser.get("/admin/").status_code == 200


def django_user(browser):
    return browser.session.get(SESSION_KEY)


def actions(published):
    return [event.action for event in published]


class DeletingValidator:
    """Accepts any password, and deletes the user before it can be set."""

    def validate(self, password, user=None):
        get_user_model().objects.filter(pk=user.pk).delete()

    def get_help_text(self):
        return ""


@contextmanager
def failing_sign_in():
    """As long as it lasts, a receiver of the site fails when a browser is signed in."""

    def fail(**kwargs):
        raise RuntimeError

    user_logged_in.connect(fail)
    yield
    user_logged_in.disconnect(fail)


class Received(list):
    """What a signal has sent while the block ran."""

    def __init__(self, signal):
        super().__init__()
        self.signal = signal

    def note(self, **kwargs):
        self.append(kwargs)

    def __enter__(self):
        self.signal.connect(self.note)
        return self

    def __exit__(self, *error):
        self.signal.disconnect(self.note)


class TestPassword:
    def test_default_site_is_ours(self):
        assert isinstance(admin.site, AuthAdminSite)

    def test_correct_password_creates_session_and_event(self, root, browser, published):
        answer = browser.post(
            LOGIN,
            {"username": "ROOT@clinic.example", "password": PASSWORD},
            REMOTE_ADDR="192.0.2.7",
            HTTP_USER_AGENT="Firefox/150",
        )
        assert (answer.status_code, answer["Location"]) == (302, "/admin/")
        assert is_signed_in(browser)
        session = root.sessions.get()
        assert (session.address, session.user_agent) == ("192.0.2.7", "Firefox/150")
        assert [(a.action, a.actor_id, a.resource_id) for a in published] == [
            ("login_succeeded", root.pk, str(session.pk))
        ]
        root.refresh_from_db()
        assert root.last_login is not None

    def test_sign_in_sends_user_logged_in_once(self, root, browser):
        with Received(user_logged_in) as sent:
            give_password(browser, root)
        assert [one["user"] for one in sent] == [root]

    def test_failed_sign_ins_have_same_response_and_event(
        self, root, make_user, browser, published
    ):
        credentials = {
            "wrong": (root.email, "wrong"),
            "unknown": ("unknown@clinic.example", PASSWORD),
            "inactive": (make_user(is_active=False, is_staff=True).email, PASSWORD),
            "not staff": (make_user().email, PASSWORD),
        }
        pages = set()
        for email, password in credentials.values():
            with Received(user_login_failed) as sent:
                answer = give_password(browser, email, password)
            assert answer.status_code == 200
            assert [one["credentials"]["username"] for one in sent] == [email]
            page = answer.content.decode().replace(email, "")
            assert INVALID in page
            pages.add(re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", page))
        assert len(pages) == 1
        assert actions(published) == ["login_failed"] * 4
        assert SignInFailures.objects.filter(failures=1).count() == 4
        assert not Session.objects.exists()

    def test_login_throttle_refuses_correct_password(self, root, browser, settings):
        settings.MYOMETRICS_AUTH = {"FAILED_SIGN_IN_LIMIT": 3}
        for _ in range(3):
            give_password(browser, root, "wrong")
        assert INVALID in give_password(browser, root).content.decode()
        assert not Session.objects.exists()
        with later(minutes=1, seconds=1):
            assert give_password(browser, root).status_code == 302

    def test_failures_at_the_api_count_in_admin_throttle(self, root, browser, api, settings):
        settings.MYOMETRICS_AUTH = {"FAILED_SIGN_IN_LIMIT": 3}
        for _ in range(3):
            send(api, "post", "auth/login/", {"email": root.email, "password": "wrong"})
        assert INVALID in give_password(browser, root).content.decode()

    @pytest.mark.parametrize("value", ["", "x\x00", "x" * 300, "ä" * 257])
    @pytest.mark.parametrize("field", ["username", "password"])
    def test_invalid_input_is_a_form_error(self, root, browser, field, value):
        form = {"username": root.email, "password": PASSWORD, field: value}
        assert browser.post(LOGIN, form).status_code == 200
        assert not Session.objects.exists()

    def test_session_key_changes_at_sign_in(self, root, browser):
        browser.get(LOGIN)
        planted = browser.session
        planted["seen"] = 1
        planted.save()
        browser.cookies["sessionid"] = planted.session_key
        give_password(browser, root)
        first = browser.session.session_key
        assert first != planted.session_key
        give_password(browser, root)
        assert browser.session.session_key != first

    def test_second_sign_in_of_a_browser_ends_the_first_session(self, signed_in, root, published):
        give_password(signed_in, root)
        assert root.sessions.live().count() == 1
        assert actions(published)[-2:] == ["login_succeeded", "logout"]
        assert is_signed_in(signed_in)

    def test_page_is_not_cached_and_has_autocomplete_hints(self, browser):
        page = browser.get(LOGIN)
        assert "no-store" in page["Cache-Control"]
        assert 'autocomplete="username"' in page.content.decode()
        assert 'autocomplete="current-password"' in page.content.decode()

    def test_a_post_without_a_csrf_token_is_refused(self, root):
        assert give_password(Client(enforce_csrf_checks=True), root).status_code == 403

    @pytest.mark.parametrize(
        ("target", "expected"),
        [
            ("/admin/auth/group/", "/admin/auth/group/"),
            ("https://evil.example/", "/admin/"),
            ("//evil.example/", "/admin/"),
            ("javascript:alert(1)", "/admin/"),
            ("", "/admin/"),
        ],
    )
    def test_next_redirects_only_within_this_site(self, root, browser, target, expected):
        answer = give_password(browser, root, path=f"{LOGIN}?next={target}")
        assert answer["Location"] == expected
        answer = give_password(Client(), root, next=target)
        assert answer["Location"] == expected

    def test_signed_in_user_is_redirected_to_the_index(self, signed_in):
        assert signed_in.get(LOGIN)["Location"] == "/admin/"

    def test_force_login_of_staff_works(self, root, browser, settings):
        settings.MYOMETRICS_AUTH = {"MFA_REQUIRED_ROLES": ["admin"]}
        browser.force_login(root)
        assert is_signed_in(browser)
        assert Client().login(username=root.email, password=PASSWORD)

    def test_session_check_costs_one_query(
        self, signed_in, root, django_assert_num_queries, client
    ):
        client.force_login(root)
        with CaptureQueriesContext(connection) as without:
            client.get("/admin/password_change/")
        with django_assert_num_queries(len(without) + 1):
            signed_in.get("/admin/password_change/")


class TestRateLimit:
    @pytest.fixture(autouse=True)
    def _limited(self, settings, clock):
        limits = {"auth": "5/minute", "api": "100/minute", "export": "2/hour"}
        settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": limits}
        rate_limiter.reset()

    def test_sixth_post_in_a_minute_is_a_429_page(self, root, browser):
        answers = [give_password(browser, root, "wrong") for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        page = answers[-1]
        assert 1 <= int(page["Retry-After"]) <= 60
        assert page["Content-Type"].startswith("text/html")
        assert "no-store" in page["Cache-Control"]
        assert "Too many attempts" in page.content.decode()
        assert "Django administration" in page.content.decode()
        elsewhere = Client(REMOTE_ADDR="192.0.2.9")
        assert give_password(elsewhere, root).status_code == 302

    def test_get_does_not_count(self, root, browser):
        assert {browser.get(LOGIN).status_code for _ in range(7)} == {200}
        assert give_password(browser, root).status_code == 302

    def test_second_factor_posts_count(self, app, root, browser, clock):
        give_password(browser, root)
        statuses = [give_code(browser, "000000").status_code for _ in range(6)]
        assert statuses == [200] * 5 + [429]

    def test_own_password_counts_by_user(self, signed_in):
        form = {"old_password": "wrong", "new_password1": "x", "new_password2": "y"}
        path = "/admin/password_change/"
        assert [signed_in.post(path, form).status_code for _ in range(6)] == [200] * 5 + [429]


class TestSecondFactor:
    def test_password_alone_does_not_sign_in(self, app, root, browser, published):
        answer = give_password(browser, root, path=f"{LOGIN}?next=/admin/auth/group/")
        assert answer["Location"] == f"{SECOND_FACTOR}?next=%2Fadmin%2Fauth%2Fgroup%2F"
        assert django_user(browser) is None
        assert not is_signed_in(browser)
        page = browser.get(answer["Location"])
        assert "no-store" in page["Cache-Control"]
        assert 'autocomplete="one-time-code"' in page.content.decode()
        assert "login_succeeded" not in actions(published)[-1:]

    @pytest.mark.parametrize("kind", ["app", "recovery code"])
    def test_code_signs_in(self, app, root, browser, published, kind):
        answer = give_password(browser, root, path=f"{LOGIN}?next=/admin/auth/group/")
        code = app.at(utc_now()) if kind == "app" else app.recovery_codes[0]
        published.clear()
        answer = give_code(browser, code, answer["Location"])
        assert answer["Location"] == "/admin/auth/group/"
        assert is_signed_in(browser)
        assert root.sessions.live().latest("created_at").second_factor
        assert actions(published) == ["login_succeeded"]

    def test_wrong_code_is_refused_and_recorded(self, app, root, browser, published):
        give_password(browser, root)
        answer = give_code(browser, "000000")
        assert answer.status_code == 200
        assert "The code is not right." in answer.content.decode()
        assert actions(published)[-1] == "login_failed"
        assert not is_signed_in(browser)

    def test_codes_are_throttled_as_at_the_api(self, app, root, browser):
        give_password(browser, root)
        for _ in range(10):
            give_code(browser, "000000")
        assert give_code(browser, app.recovery_codes[0]).status_code == 200
        assert RecoveryCode.objects.count() == 10

    def test_recovery_code_stays_unused_if_sign_in_fails(self, app, root, browser):
        browser.raise_request_exception = False
        code = app.recovery_codes[0]
        give_password(browser, root)
        with failing_sign_in():
            assert give_code(browser, code).status_code == 500
        assert not root.sessions.filter(browser_key__isnull=False).exists()
        give_password(browser, root)
        assert give_code(browser, code)["Location"] == "/admin/"

    def test_password_step_belongs_to_its_browser(self, app, root, browser):
        give_password(browser, root)
        other = Client()
        answer = give_code(other, app.at(utc_now()))
        assert (answer.status_code, answer["Location"]) == (302, LOGIN)
        assert not is_signed_in(other)

    def test_password_step_is_used_once(self, app, root, browser):
        give_password(browser, root)
        before = browser.cookies["sessionid"].value
        assert give_code(browser, app.recovery_codes[0]).status_code == 302
        replay = Client()
        for key in (before, browser.cookies["sessionid"].value):
            replay.cookies["sessionid"] = key
            assert give_code(replay, app.recovery_codes[1])["Location"] in {LOGIN, "/admin/"}
        assert root.sessions.live().filter(second_factor=True).count() == 2  # the API's, and this

    def test_password_step_gets_a_new_session_key(self, app, root, browser):
        planted = browser.session
        planted["seen"] = 1
        planted.save()
        browser.cookies["sessionid"] = planted.session_key
        give_password(browser, root)
        fixed = Client()
        fixed.cookies["sessionid"] = planted.session_key
        assert give_code(fixed, app.at(utc_now()))["Location"] == LOGIN

    @pytest.mark.parametrize("what", ["time", "password", "deactivation"])
    def test_password_step_expires(self, app, root, browser, clock, what):
        give_password(browser, root)
        if what == "time":
            clock.shift(5 * 60 + 1)
        elif what == "password":
            root.set_password(NEW_PASSWORD)
            root.save()
        else:
            get_user_model().objects.update(is_active=False)
        answer = give_code(browser, app.at(utc_now()))
        assert (answer.status_code, answer["Location"]) == (302, LOGIN)
        assert not is_signed_in(browser)

    def test_page_without_password_step_redirects_to_login(self, browser):
        for path in (SECOND_FACTOR, ENROLMENT):
            for answer in (browser.get(path), browser.post(path, {"code": "1"})):
                assert (answer.status_code, answer["Location"]) == (302, LOGIN)

    @pytest.mark.parametrize("value", ["", "x\x00", "x" * 300])
    def test_invalid_codes_are_form_errors(self, app, root, browser, value):
        give_password(browser, root)
        assert give_code(browser, value).status_code == 200


class TestRequiredSecondFactor:
    @pytest.fixture(autouse=True)
    def _required(self, settings, clock):
        settings.MYOMETRICS_AUTH = {"MFA_REQUIRED_ROLES": ["admin"]}

    def begin(self, browser, root, path=LOGIN):
        answer = give_password(browser, root, path=path)
        page = browser.get(answer["Location"])
        secret = re.search(r'class="mm-secret">([A-Z2-7 ]+)<', page.content.decode())[1]
        return answer["Location"], page, pyotp.TOTP(secret.replace(" ", ""))

    def test_user_without_second_factor_is_redirected_to_enrolment(self, root, browser):
        where, page, app = self.begin(browser, root, f"{LOGIN}?next=/admin/auth/group/")
        assert where == f"{ENROLMENT}?next=%2Fadmin%2Fauth%2Fgroup%2F"
        assert "no-store" in page["Cache-Control"]
        address = app.provisioning_uri(name=root.email, issuer_name="MyoMetrics")
        assert _qr_code_svg(address) in page.content.decode()
        assert 'aria-label="QR code' in page.content.decode()
        assert django_user(browser) is None
        assert not is_signed_in(browser)
        assert not Session.objects.exists()

    def test_first_code_signs_in_and_shows_recovery_codes_once(self, root, browser, published):
        where, _page, app = self.begin(browser, root, f"{LOGIN}?next=/admin/auth/group/")
        answer = give_code(browser, app.at(utc_now()), where)
        assert answer.status_code == 200
        assert "no-store" in answer["Cache-Control"]
        codes = re.findall(r"\w{4}-\w{4}-\w{4}", answer.content.decode())
        assert len(set(codes)) == 10
        assert 'href="/admin/auth/group/"' in answer.content.decode()
        assert is_signed_in(browser)
        assert root.sessions.get().second_factor
        assert actions(published) == ["second_factor_enabled", "login_succeeded"]
        for again in (browser.get(where), give_code(browser, app.at(utc_now()), where)):
            assert again.status_code == 302

    def test_wrong_code_shows_the_same_secret_again(self, root, browser):
        where, _page, app = self.begin(browser, root)
        answer = give_code(browser, "000000", where)
        assert "The code is not right." in answer.content.decode()
        assert answer.context["secret"].replace(" ", "") == app.secret
        assert not is_signed_in(browser)

    def test_enrolment_rolls_back_if_sign_in_fails(self, root, browser):
        where, _page, app = self.begin(browser, root)
        browser.raise_request_exception = False
        with failing_sign_in():
            assert give_code(browser, app.at(utc_now()), where).status_code == 500
        assert not TotpDevice.objects.exclude(confirmed_at=None).exists()
        where, _page, app = self.begin(browser, root)
        assert "recovery-codes" in give_code(browser, app.at(utc_now()), where).content.decode()

    def test_wrong_code_is_counted_and_recorded(self, root, browser, published):
        where, _page, _app = self.begin(browser, root)
        give_code(browser, "000000", where)
        assert SignInFailures.objects.get().failures == 1
        assert actions(published) == ["login_failed"]

    def test_enrolment_belongs_to_its_browser(self, root, browser):
        where, _page, app = self.begin(browser, root)
        assert give_code(Client(), app.at(utc_now()), where).status_code == 302
        assert not Session.objects.exists()

    @pytest.mark.parametrize("what", ["time", "password", "deactivation", "deletion"])
    def test_enrolment_expires(self, root, browser, clock, what):
        where, _page, app = self.begin(browser, root)
        if what == "time":
            clock.shift(5 * 60 + 1)
        elif what == "password":
            root.set_password(NEW_PASSWORD)
            root.save()
        elif what == "deactivation":
            get_user_model().objects.update(is_active=False)
        else:
            root.delete()
        assert give_code(browser, app.at(utc_now()), where).status_code == 302
        assert not Session.objects.exists()

    def test_user_with_second_factor_must_enter_it(self, app, root, browser):
        assert give_password(browser, root)["Location"] == SECOND_FACTOR

    def test_removing_second_factor_signs_the_browser_out(self, app, root, browser, published):
        give_password(browser, root)
        give_code(browser, app.at(utc_now()))
        assert is_signed_in(browser)
        TotpDevice.objects.all().delete()
        Session.objects.update(second_factor=False)
        assert not is_signed_in(browser)
        assert django_user(browser) is None
        assert actions(published)[-1] == "logout"
        assert give_password(browser, root)["Location"] == ENROLMENT


def test_newly_required_role_takes_effect_at_once(signed_in, root, settings):
    settings.MYOMETRICS_AUTH = {"MFA_REQUIRED_ROLES": ["admin"]}
    assert not is_signed_in(signed_in)
    assert not root.sessions.live().exists()
    assert give_password(signed_in, root)["Location"] == ENROLMENT


class TestEndingSessions:
    def test_api_lists_and_ends_it(self, signed_in, root, sign_in):
        client = sign_in(root)
        sessions = client.get("/api/auth/sessions/").json()["results"]
        (other,) = [session for session in sessions if not session["current"]]
        assert client.delete(f"/api/auth/sessions/{other['id']}/").status_code == 204
        answer = signed_in.get("/admin/auth/group/")
        assert answer["Location"] == "/admin/login/?next=/admin/auth/group/"
        assert django_user(signed_in) is None
        assert "not authorized" not in signed_in.get(LOGIN).content.decode()

    @pytest.mark.parametrize("how", ["others", "admin", "password", "deactivation", "deletion"])
    def test_ending_the_session_signs_the_browser_out(
        self, signed_in, root, sign_in, make_user, how
    ):
        make_user(role="admin")
        if how == "others":
            sign_in(root).delete("/api/auth/sessions/")
        elif how == "admin":
            root.sessions.live().end()
        elif how == "password":
            body = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}
            assert send(sign_in(root), "post", "auth/change-password/", body).status_code == 200
        elif how == "deactivation":
            get_user_model().objects.filter(pk=root.pk).update(is_active=False)
        else:
            root.delete()
        assert not is_signed_in(signed_in)

    def test_it_expires_with_the_session(self, signed_in):
        with later(days=6, hours=23):
            assert is_signed_in(signed_in)
        with later(days=7, hours=1):
            assert not is_signed_in(signed_in)

    def test_ending_it_deletes_the_django_session(
        self, signed_in, root, django_capture_on_commit_callbacks
    ):
        assert signed_in.get("/whoami/").content == root.email.encode()
        with django_capture_on_commit_callbacks(execute=True):
            root.sessions.end()
        assert signed_in.get("/whoami/").content == b""

    def test_ending_it_deletes_the_django_session_after_a_key_rotation(
        self, signed_in, root, settings, django_capture_on_commit_callbacks
    ):
        old, new = settings.SECRET_KEY, "new " * 20
        settings.MYOMETRICS_AUTH = {"MFA_ENCRYPTION_KEYS": [new, old]}
        call_command("auth_rotate_secrets", verbosity=0)
        settings.MYOMETRICS_AUTH = {"MFA_ENCRYPTION_KEYS": [new]}
        with django_capture_on_commit_callbacks(execute=True):
            root.sessions.end()
        assert signed_in.get("/whoami/").content == b""

    def test_ending_it_during_another_sign_in_deletes_django_session(
        self, app, browser, root, make_user, django_capture_on_commit_callbacks
    ):
        first = make_user(is_staff=True)
        give_password(browser, first)
        assert give_password(browser, root)["Location"] == SECOND_FACTOR
        assert browser.get("/whoami/").content == first.email.encode()
        with django_capture_on_commit_callbacks(execute=True):
            first.sessions.end()
        assert browser.get("/whoami/").content == b""

    @pytest.mark.parametrize("engine", ["cache", "cached_db", "file"])
    def test_ending_it_deletes_the_django_session_in_every_store(
        self, browser, root, settings, tmp_path, django_capture_on_commit_callbacks, engine
    ):
        settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
        settings.SESSION_FILE_PATH = str(tmp_path)
        give_password(browser, root)
        assert browser.get("/whoami/").content == root.email.encode()
        with django_capture_on_commit_callbacks(execute=True):
            root.sessions.end()
        assert browser.get("/whoami/").content == b""

    def test_sessions_in_cookies_end_in_the_admin_site(self, browser, root, settings):
        settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
        give_password(browser, root)
        assert is_signed_in(browser)
        root.sessions.end()
        assert not is_signed_in(browser)

    def test_key_is_stored_encrypted(self, signed_in, root):
        key = signed_in.cookies["sessionid"].value
        stored = root.sessions.get().browser_key
        assert stored
        assert key not in stored

    def test_key_replaced_by_django_is_stored(
        self, signed_in, root, settings, django_capture_on_commit_callbacks
    ):
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "another-" + "y" * 50
        before = signed_in.cookies["sessionid"].value
        assert is_signed_in(signed_in)
        assert signed_in.cookies["sessionid"].value != before
        with django_capture_on_commit_callbacks(execute=True):
            root.sessions.end()
        assert signed_in.get("/whoami/").content == b""

    def test_last_seen_is_updated(self, signed_in, root):
        first = root.sessions.get().refreshed_at
        with later(minutes=16):
            assert is_signed_in(signed_in)
        assert root.sessions.get().refreshed_at - first >= timedelta(minutes=16)

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("how", ["session", "password", "deletion"])
    def test_ending_own_session_signs_out_in_the_same_request(
        self, root, browser, make_user, settings, how
    ):
        settings.SESSION_SAVE_EVERY_REQUEST = True
        make_user(role="admin")
        give_password(browser, root)
        path, form = {
            "session": (
                "/admin/myometrics_auth/session/",
                {"action": "end_sessions", "_selected_action": root.sessions.get().pk},
            ),
            "password": (
                f"/admin/myometrics_auth/user/{root.pk}/password/",
                {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true"},
            ),
            "deletion": (f"/admin/myometrics_auth/user/{root.pk}/delete/", {"post": "yes"}),
        }[how]
        assert browser.post(path, form).status_code == 302
        assert django_user(browser) is None
        assert not is_signed_in(browser)

    def test_its_key_is_not_shown(self, signed_in, root):
        session = root.sessions.get()
        page = signed_in.get(f"/admin/myometrics_auth/session/{session.pk}/change/")
        assert session.browser_key not in page.content.decode()

    def test_its_id_gives_no_access_to_the_api(self, signed_in, root, api):
        assert api.get("/api/auth/user/").status_code == 401


class TestLogout:
    def test_ends_the_session_with_an_entry(self, signed_in, root, published):
        session = root.sessions.get()
        with Received(user_logged_out) as sent:
            assert signed_in.post("/admin/logout/").status_code == 200
        assert len(sent) == 1
        assert not root.sessions.live().exists()
        assert [(a.action, a.resource_id) for a in published][-1] == ("logout", str(session.pk))
        assert not is_signed_in(signed_in)

    def test_is_by_post_only(self, signed_in):
        assert signed_in.get("/admin/logout/").status_code == 405
        assert is_signed_in(signed_in)

    def test_a_page_of_the_site_that_signs_out_ends_the_session(self, signed_in, root):
        signed_in.post("/sign-out/")
        assert not root.sessions.live().exists()

    def test_signing_out_at_the_api_leaves_the_browser(self, signed_in, root, sign_in):
        client = sign_in(root)
        client.cookies["sessionid"] = signed_in.cookies["sessionid"].value
        body = {"refresh": client.tokens["refresh"]}
        assert send(client, "post", "auth/logout/", body).status_code == 200
        assert is_signed_in(signed_in)


class TestOwnPassword:
    PATH = "/admin/password_change/"

    def change(self, browser, old=PASSWORD, new=NEW_PASSWORD, again=None):
        form = {"old_password": old, "new_password1": new, "new_password2": again or new}
        return browser.post(self.PATH, form)

    def test_ends_every_other_session_and_keeps_this_one(self, signed_in, root, sign_in, published):
        client, other = sign_in(root), Client()
        give_password(other, root)
        published.clear()
        answer = self.change(signed_in)
        assert answer["Location"] == "/admin/password_change/done/"
        assert signed_in.get(answer["Location"]).status_code == 200
        assert is_signed_in(signed_in)
        assert not is_signed_in(other)
        assert client.get("/api/auth/user/").status_code == 401
        assert actions(published) == ["password_changed"]
        root.refresh_from_db()
        assert root.check_password(NEW_PASSWORD)

    def test_the_kept_session_can_still_be_ended(
        self, signed_in, root, django_capture_on_commit_callbacks
    ):
        self.change(signed_in)
        with django_capture_on_commit_callbacks(execute=True):
            root.sessions.end()
        assert signed_in.get("/whoami/").content == b""

    def test_errors_are_shown_at_their_fields(self, signed_in, root):
        page = self.change(signed_in, old="wrong")
        assert page.context["form"].errors.keys() == {"old_password"}
        for new, again in (("short", None), (NEW_PASSWORD, PASSWORD), ("x" * 257, None)):
            page = self.change(signed_in, new=new, again=again)
            assert page.status_code == 200
            assert page.context["form"].errors
        root.refresh_from_db()
        assert root.check_password(PASSWORD)

    def test_user_deleted_concurrently_is_redirected_to_login(self, signed_in, settings):
        settings.AUTH_PASSWORD_VALIDATORS = [{"NAME": f"{__name__}.DeletingValidator"}]
        assert self.change(signed_in)["Location"] == LOGIN
        assert django_user(signed_in) is None

    def test_works_for_a_browser_signed_in_by_the_site(self, root, browser, sign_in):
        browser.force_login(root)
        client = sign_in(root)
        assert self.change(browser).status_code == 302
        assert is_signed_in(browser)
        assert client.get("/api/auth/user/").status_code == 401


@pytest.mark.usefixtures("own_sites")
class TestCustomAdminSites:
    """Admin sites of our class, below paths of their own."""

    @pytest.fixture
    def own_sites(self, settings):
        settings.ROOT_URLCONF = "hosts_admin_sites"

    def test_site_with_our_class_signs_in_through_auth(self, root, browser, published):
        assert give_password(browser, root, path="/clinic/login/")["Location"] == "/clinic/"
        page = browser.get("/clinic/")
        assert "North Clinic" in page.content.decode()
        assert actions(published) == ["login_succeeded"]

    def test_its_steps_have_its_own_paths(self, app, root, browser):
        answer = give_password(browser, root, path="/clinic/login/")
        assert answer["Location"] == "/clinic/login/second-factor/"
        page = browser.get(answer["Location"])
        assert 'href="/clinic/login/"' in page.content.decode()
        answer = give_code(browser, app.at(utc_now()), answer["Location"])
        assert answer["Location"] == "/clinic/"

    def test_it_may_accept_users_who_are_not_staff(self, doctor, browser):
        assert give_password(browser, doctor, path="/clinic/login/").status_code == 200
        assert give_password(browser, doctor, path="/doctors/login/")["Location"] == "/doctors/"
        assert browser.get("/doctors/").status_code == 200

    def test_an_ended_session_is_signed_out_of_every_site(self, root, browser):
        give_password(browser, root, path="/clinic/login/")
        assert is_signed_in(browser)
        root.sessions.end()
        assert browser.get("/clinic/").status_code == 302
        assert not is_signed_in(browser)


def test_the_documented_example_signs_in_through_auth(
    root, browser, settings, tmp_path, monkeypatch
):
    files = {"clinic/urls.py": "from django.urls import path\nurlpatterns = []\n"}
    for block in blocks_in(section(GUIDE.read_text(), "Your own admin site")):
        files[block.file] = files.get(block.file, "") + block.text + "\n"
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    settings.ROOT_URLCONF = "clinic.urls"
    answer = give_password(browser, root, path="/clinic-admin/login/")
    assert answer["Location"] == "/clinic-admin/"
    assert "North Clinic" in browser.get("/clinic-admin/").content.decode()
    assert root.sessions.live().exists()


class TestDefaultSite:
    @pytest.fixture
    def default_site(self):
        """Gives the default site another class, as it was before ``ready()``."""
        before = admin.site.__class__

        def become(site_class):
            admin.site.__class__ = site_class
            use_auth_sign_in()
            return admin.site.__class__

        yield become
        admin.site.__class__ = before
        vars(admin.site._wrapped).pop("login_form", None)

    def test_djangos_site_is_replaced(self, default_site):
        assert default_site(admin.AdminSite) is AuthAdminSite

    def test_subclass_keeps_its_attributes(self, default_site):
        class Titled(admin.AdminSite):
            site_header = "North Clinic"

            def has_permission(self, request):
                return super().has_permission(request) and request.user.role == "admin"

        site_class = default_site(Titled)
        assert issubclass(site_class, (AuthAdminSite, Titled))
        assert admin.site.site_header == "North Clinic"

    def test_site_with_custom_login_is_not_changed(self, default_site):
        class OwnLogin(admin.AdminSite):
            def login(self, request, extra_context=None):
                return super().login(request, extra_context)

        class OwnForm(admin.AdminSite):
            login_form = AuthenticationForm

        assert default_site(OwnLogin) is OwnLogin
        assert default_site(OwnForm) is OwnForm

    def test_setting_keeps_djangos_login(self):
        site = """
from django.conf import settings
from myometrics_testing.settings import package_settings
settings.configure(**package_settings(
    apps=["myometrics_auth"], urls="auth_test_urls", AUTH_USER_MODEL="myometrics_auth.User",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.PBKDF2PasswordHasher"],
    AUTH_PASSWORD_VALIDATORS=[
        {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"}
    ],
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES":
        ["myometrics_auth.authentication.SessionTokenAuthentication"]},
    MYOMETRICS={"API_URL": "https://api.clinic.example/api"},
    MYOMETRICS_AUTH={"ADMIN_LOGIN": False}))
import django; django.setup()
from django.contrib import admin
from django.core.checks import run_checks
print(admin.site.__class__ is admin.AdminSite, [
    message.id for message in run_checks() if message.id.startswith("myometrics_auth.")
])
"""
        command = [sys.executable, "-c", site]
        folder = Path(__file__).parent
        output = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        assert output.stdout.strip() == "True []"


def test_browser_session_is_current_session_of_the_api(signed_in, root, settings, sign_in):
    settings.REST_FRAMEWORK = {
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"]
    }
    sessions = signed_in.get("/api/auth/sessions/").json()["results"]
    assert [session["current"] for session in sessions] == [True]
    body = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}
    answer = signed_in.post("/api/auth/change-password/", body, content_type="application/json")
    assert answer.status_code == 200
    assert is_signed_in(signed_in)


def test_steps_are_exempt_from_login_required_middleware(app, root, browser, settings):
    if django.VERSION >= (5, 1):
        middleware = "django.contrib.auth.middleware.LoginRequiredMiddleware"
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, middleware]
    assert browser.get(LOGIN).status_code == 200
    answer = give_password(browser, root)
    assert browser.get(answer["Location"]).status_code == 200
    assert give_code(browser, app.at(utc_now()))["Location"] == "/admin/"
    settings.MYOMETRICS_AUTH = {"MFA_REQUIRED_ROLES": ["admin"]}
    TotpDevice.objects.all().delete()
    other = Client()
    answer = give_password(other, root)
    assert answer["Location"] == ENROLMENT
    assert other.get(ENROLMENT).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_failures_count_with_atomic_requests(root, browser, monkeypatch, settings):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    settings.MYOMETRICS_AUTH = {"FAILED_SIGN_IN_LIMIT": 2}
    for _ in range(2):
        give_password(browser, root, "wrong")
    assert give_password(browser, root).status_code == 200
    with later(minutes=1, seconds=1):
        assert give_password(browser, root).status_code == 302
    assert is_signed_in(browser)


@pytest.mark.django_db(transaction=True)
def test_one_code_signs_one_of_ten_browsers_in(clock, root, run_concurrently):
    secret = pyotp.random_base32()
    encrypted = encrypt_secret(secret, owner=root.pk)
    TotpDevice.objects.create(user=root, secret=encrypted, confirmed_at=utc_now())
    code = pyotp.TOTP(secret).at(utc_now())

    def sign_in():
        browser = Client()
        give_password(browser, root)
        give_code(browser, code)
        return is_signed_in(browser)

    assert sorted(run_concurrently(sign_in, times=10)) == [False] * 9 + [True]


def test_pages_are_in_the_sites_language(root, browser, settings):
    settings.LANGUAGE_CODE = "de"
    settings.MYOMETRICS_AUTH = {"MFA_REQUIRED_ROLES": ["admin"]}
    page = browser.get(give_password(browser, root)["Location"]).content.decode()
    assert "Zweiten Faktor einrichten" in page
    assert "QR-Code für die Authenticator-App" in page


def test_several_authentication_backends_work(app, root, browser, settings):
    settings.AUTHENTICATION_BACKENDS = [
        "hosts_own.HastyBackend",
        "django.contrib.auth.backends.ModelBackend",
    ]
    give_password(browser, root)
    assert give_code(browser, app.at(utc_now())).status_code == 302
    assert browser.session[BACKEND_SESSION_KEY] == "hosts_own.HastyBackend"
    assert is_signed_in(browser)
