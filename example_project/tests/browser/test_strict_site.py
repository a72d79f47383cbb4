"""The journey of an account on a site with every switch on, in Chromium.

The administrator uses the admin site, the user a front end at another origin:
``clients/typescript/tests/strict.ts`` has its steps.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

import httpx
import pyotp
import pytest
from running_site import ADMIN, LONG_TIMEOUTS, PASSWORD, RunningSite
from selenium.webdriver.common.by import By
from selenium.webdriver.common.virtual_authenticator import VirtualAuthenticatorOptions
from selenium.webdriver.support.ui import WebDriverWait

from myometrics_core.times import utc_now
from myometrics_testing.waiting import PATIENCE, wait_for

PAGE = "/tests/page.html"
CALL = """
const [name, given, done] = arguments;
import("/dist/tests/strict.js")
  .then((steps) => steps[name](...given))
  .then((answer) => done({ answer }), (error) => done({ error: String(error) }));
"""
AGE = """
from datetime import timedelta
from myometrics_auth.models import Session
from myometrics_auth.passkeys.models import Passkey
for session in Session.objects.all():
    session.created_at -= timedelta(minutes=10)
    session.save(update_fields=["created_at"])
for passkey in Passkey.objects.all():
    passkey.created_at -= timedelta(days=9)
    passkey.save(update_fields=["created_at"])
"""
"""Makes every sign-in ten minutes old, and every passkey too old for an undo to remove it."""
STEP = timedelta(seconds=30)
BREACHED = "breached-battery-staple"
CHOSEN, RESET = "seven-herons-wade-slowly", "nine-otters-paddle-home"
INVITED, MOVED = "invited@clinic.example", "moved@clinic.example"
REGISTRATION = {"email": INVITED, "firstName": "Jane", "lastName": "Smith"}
STRICT = {
    **LONG_TIMEOUTS,
    "DJANGO_SETTINGS_MODULE": "strict_settings",
    "REGISTRATION": "invitation",
    "EMAIL_VERIFICATION": "required",
    "SESSION_IDLE_TIMEOUT": "1800",
    "SESSIONS_PER_USER": "2",
    "ROTATE_REFRESH_TOKENS": "true",
    "REAUTHENTICATE_FOR": "change_email,delete_account,disable_mfa,export",
    "MFA_REQUIRED_ROLES": "admin,doctor,technician",
    "AUDIT_ON_USER_DELETE": "retain",
    "RATE_LIMIT_AUTH": "1000/hour",
    "RATE_LIMIT_EXPORT": "1000/hour",
}
NEEDS_FACTOR = [403, "second_factor_required"]
NEEDS_SIGN_IN = [403, "reauthentication_required"]


@pytest.fixture
def strict_site(origin, tmp_path):
    running = RunningSite(tmp_path, f"sqlite:///{tmp_path / 'site.sqlite3'}", None)
    passwords, words = tmp_path / "breached.bin", tmp_path / "breached.txt"
    words.write_text(f"{BREACHED}\n")
    running.environment |= {
        **STRICT,
        "CORS_ALLOWED_ORIGINS": origin,
        "FRONTEND_URL": origin,
        "DJANGO_API_URL": f"{running.url}/api",
        "BREACHED_PASSWORDS": str(passwords),
    }
    try:
        running.manage("breached_passwords", str(passwords), "--from", str(words))
        running.start()
        running.make_administrator()
        yield running
    finally:
        running.stop()


@pytest.fixture
def browser(make_browser, typescript):
    driver = make_browser()
    driver.set_script_timeout(PATIENCE)
    options = VirtualAuthenticatorOptions(
        protocol=VirtualAuthenticatorOptions.Protocol.CTAP2,
        transport=VirtualAuthenticatorOptions.Transport.INTERNAL,
        has_resident_key=True,
        has_user_verification=True,
        is_user_verified=True,
    )
    driver.add_virtual_authenticator(options)
    return driver


class FrontEnd:
    """The front end in a tab of the browser, which it keeps."""

    def __init__(self, browser, origin):
        self.browser = browser
        browser.get(f"{origin}{PAGE}")
        wait(browser, lambda: browser.title == "Front end")

    def __call__(self, name, *given):
        """The result of the function ``name`` of the front end."""
        outcome = self.browser.execute_async_script(CALL, name, list(given))
        assert "error" not in outcome, outcome
        return outcome["answer"]


class Administrator:
    """The administrator in the admin site, with an authenticator app."""

    def __init__(self, browser, site):
        self.browser, self.site = browser, site

    def enrol(self):
        """Sign in for the first time: set up the second factor that the role requires."""
        self.open("/admin/")
        self.submit(username=ADMIN, password=PASSWORD)
        secret = self.browser.find_element(By.CSS_SELECTOR, ".mm-secret").text
        self.app = pyotp.TOTP(secret.replace(" ", ""))
        self.submit(code=self.app.at(utc_now()))
        self.browser.find_element(By.LINK_TEXT, "Continue").click()
        wait(self.browser, lambda: self.browser.title.startswith("Site administration"))

    def invite(self, email, role):
        self.open("/admin/myometrics_auth/invitation/add/")
        self.browser.execute_script(
            "document.querySelector('[name=role]').value = arguments[0]", role
        )
        self.submit(email=email)

    def open(self, path):
        self.browser.get(f"{self.site.url}{path}")

    def submit(self, **values):
        for name, value in values.items():
            self.browser.find_element(By.NAME, name).send_keys(value)
        press(self.browser, ".submit-row input")

    @property
    def text(self):
        return self.browser.find_element(By.TAG_NAME, "body").text

    def read_log(self):
        """The actions in the log, by the API."""
        http = httpx.Client(base_url=f"{self.site.url}/api", timeout=PATIENCE)
        body = {"email": ADMIN, "password": PASSWORD}
        first = http.post("/auth/login/", json=body).json()
        # The next code: that of now may be used up, and works beside it.
        body = {"mfa_token": first["mfa_token"], "code": self.app.at(utc_now() + STEP)}
        tokens = http.post("/auth/login/mfa/", json=body).json()
        headers = {"Authorization": f"Bearer {tokens['access']}"}
        answer = http.get("/audit-logs/", params={"page_size": 100}, headers=headers)
        return [entry["action"] for entry in answer.json()["results"]]


def wait(browser, condition):
    WebDriverWait(browser, PATIENCE).until(lambda _: condition())


def press(browser, button):
    """Send a form by its button, and wait for the page that comes."""
    before = browser.find_element(By.TAG_NAME, "html")
    browser.find_element(By.CSS_SELECTOR, button).click()
    wait(browser, lambda: _is_gone(before))


def _is_gone(element):
    try:
        return not element.is_enabled()
    except Exception:
        return True


@contextmanager
def new_tab(browser, url=None):
    """Another tab, closed at the end."""
    before = browser.current_window_handle
    browser.switch_to.new_window("tab")
    if url:
        browser.get(url)
    yield
    browser.close()
    browser.switch_to.window(before)


def link_to(site, address, path, count=1):
    """The link to ``path`` in the newest mail to ``address`` that has one."""
    found = []

    def has_enough():
        texts = site.mails_to(address)
        found[:] = [link for text in texts for link in re.findall(r"https?://\S+", text)]
        found[:] = [link for link in found if urlsplit(link).path == path]
        return len(found) >= count

    wait_for(has_enough, log=lambda: site.log)
    return found[-1]


def query_of(link):
    return dict(parse_qsl(urlsplit(link).query))


def check_log(administrator):
    """The administrator reads in the log what has happened, by the API and in the admin site."""
    actions = administrator.read_log()
    assert set(actions) >= {
        *("user_invited", "invitation_accepted", "passkey_added", "logout", "login_succeeded"),
        *("data_exported", "email_changed", "email_change_undone", "password_reset"),
        *("login_failed", "user_deleted"),
    }
    with new_tab(administrator.browser):
        administrator.open("/admin/myometrics_audit/auditlog/")
        listed = administrator.browser.find_element(By.ID, "result_list").text
        assert "User deleted" in listed
        assert INVITED not in listed


def test_account_on_a_strict_site(browser, strict_site, origin):
    site = strict_site
    user = FrontEnd(browser, origin)
    with new_tab(browser):
        administrator = Administrator(browser, site)
        administrator.enrol()
        administrator.invite(INVITED, "doctor")

    # Registration: by the invitation only, with a password that is long and not breached.
    invitation = query_of(link_to(site, INVITED, "/register"))["invitation"]
    body = {**REGISTRATION, "invitation": invitation, "password": CHOSEN}
    refusals = ({"password": BREACHED}, {"password": CHOSEN[:14]}, {"invitation": "none"})
    for changes in refusals:
        answer = user("register", site.url, {**body, **changes})
        assert answer == [400, "validation_error", *changes]
    assert user("register", site.url, body) == [201]
    assert user("register", site.url, body)[0] == 400

    # Nothing is open without a second factor; the passkey is one.
    assert user("exportData")[:2] == NEEDS_FACTOR
    assert user("addPasskey") == [201, 10]
    assert user("signOut") == [200]
    assert user("signIn") == [200]
    assert user("refresh") == [200, True]

    # Sensitive operations need a recent sign-in.
    site.manage("shell", "--command", AGE)
    change = {"email": MOVED, "password": CHOSEN}
    assert user("exportData")[:2] == NEEDS_SIGN_IN
    assert user("changeEmail", change) == NEEDS_SIGN_IN
    assert user("deleteAccount") == NEEDS_SIGN_IN
    assert user("reauthenticate") == [200]
    status, text = user("exportData")
    assert status == 200
    assert INVITED in json.dumps(json.loads(text))

    # The address is changed at the new one and restored from the old one.
    assert user("changeEmail", change) == [202]
    with new_tab(browser, link_to(site, MOVED, "/api/auth/email/confirm/")):
        browser.find_element(By.NAME, "password").send_keys(CHOSEN)
        press(browser, "[type=submit]")
        assert "The address is changed." in browser.find_element(By.TAG_NAME, "body").text
    with new_tab(browser, link_to(site, INVITED, "/api/auth/email/undo/")):
        press(browser, "[type=submit]")
        link = browser.find_element(By.LINK_TEXT, "Choose a new password").get_attribute("href")
    assert user("profile") == [401, "token_not_valid"]
    assert user("signInTwice", {"email": INVITED, "password": CHOSEN})[0] == 401
    # Beside a second factor eight characters are enough, unless they are breached.
    reset = {**query_of(link), "new_password": RESET[:8]}
    answer = user("resetPassword", {**reset, "new_password": BREACHED})
    assert answer == [400, "validation_error", "new_password"]
    assert user("resetPassword", reset) == [200]
    assert user("signInTwice", {"email": INVITED, "password": RESET[:8]}) == [200]

    # The account is deleted; neither the passkey nor the tokens are good for anything.
    assert user("deleteAccount") == [204]
    assert user("profile")[0] == 401
    assert user("signIn") == [401, "invalid_credentials"]

    check_log(administrator)
