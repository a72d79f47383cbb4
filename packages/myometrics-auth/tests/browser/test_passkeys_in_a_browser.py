"""Passkeys in headless Chromium, with the virtual authenticator of its developer tools."""

from __future__ import annotations

import pytest
from conftest import PASSWORD
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.test import override_settings
from pytest_django.live_server_helper import LiveServer
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from myometrics_auth.models import Session
from myometrics_auth.passkeys.models import Passkey
from myometrics_testing.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)

KEY = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
SCRIPT = """
const [name, given, done] = arguments;
const json = { "Content-Type": "application/json" };
let token = null;
async function send(path, body) {
  const headers = token ? { ...json, Authorization: `Bearer ${token}` } : json;
  const answer = await fetch(`/api/auth/${path}`,
    { method: "POST", headers, body: JSON.stringify(body) });
  return { status: answer.status, ...(await answer.json()) };
}
async function login() {
  const answer = await send("login/", given);
  token = answer.access;
  return answer;
}
async function answerOf(options) {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options.publicKey);
  return (await navigator.credentials.get({ publicKey, mediation: given.mediation })).toJSON();
}
const steps = {
  async register() {
    await login();
    const options = await send("passkeys/register/options/", {});
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options.publicKey);
    const passkey = (await navigator.credentials.create({ publicKey })).toJSON();
    return send("passkeys/register/verify/", { passkey });
  },
  async signIn() {
    const passkey = await answerOf(await send("login/passkey/options/", {}));
    const answer = await send("login/passkey/verify/", { passkey });
    return given.again ? send("login/passkey/verify/", { passkey }) : answer;
  },
  async secondFactor() {
    const { mfa_token } = await login();
    const passkey = await answerOf(await send("login/passkey/options/", { mfa_token }));
    return send("login/mfa/", { mfa_token, passkey });
  },
};
steps[name]().then(done, (error) => done({ error: error.name }));
"""


@pytest.fixture(scope="module")
def site():
    """The address of the site, which allows nothing inline."""
    middleware = ["hosts_own.StrictPolicyMiddleware", *django_settings.MIDDLEWARE]
    with override_settings(MIDDLEWARE=middleware):
        server = LiveServer("localhost")
        yield server.url
        server.stop()


@pytest.fixture
def configure(settings, site):
    """Changes settings of auth; passkeys belong to ``localhost``."""

    def configure(**changes):
        passkeys = {"PASSKEY_RP_ID": "localhost", "PASSKEY_ORIGINS": [site]}
        settings.MYOMETRICS_AUTH = {**passkeys, **changes}

    configure()
    return configure


@pytest.fixture
def root(transactional_db):
    return get_user_model().objects.create_superuser("root@clinic.example", PASSWORD)


@pytest.fixture
def page(chromium, site, configure):
    chromium.get(f"{site}/whoami/")
    chromium.delete_all_cookies()
    chromium.set_script_timeout(PATIENCE)
    chromium.execute_cdp_cmd("WebAuthn.enable", {})
    page = Page(chromium, site)
    yield page
    page.unplug()
    chromium.execute_cdp_cmd("WebAuthn.disable", {})


class Page:
    """A page of the site, and the authenticators that are plugged in."""

    def __init__(self, driver, site):
        self.driver, self.site, self.plugged = driver, site, []

    def plug_in(self, **changes):
        answer = self.cdp("addVirtualAuthenticator", options={**KEY, **changes})
        self.plugged.append(answer["authenticatorId"])
        return self.plugged[-1]

    def unplug(self):
        while self.plugged:
            self.cdp("removeVirtualAuthenticator", authenticatorId=self.plugged.pop())

    def cdp(self, command, **given):
        return self.driver.execute_cdp_cmd(f"WebAuthn.{command}", given)

    def do(self, step, user=None, **given):
        if user is not None:
            given |= {"email": user.email, "password": PASSWORD}
        return self.driver.execute_async_script(SCRIPT, step, given)


@pytest.fixture
def key(page, root):
    """The authenticator with a passkey of ``root``."""
    plugged = page.plug_in()
    assert page.do("register", root)["status"] == 201
    return plugged


def test_passkey_is_created_and_signs_in(page, root, key):
    answer = page.do("signIn")
    assert (answer["status"], answer["user"]["email"]) == (200, root.email)
    assert page.do("secondFactor", root)["status"] == 200


def test_replayed_response_is_refused(page, key):
    assert page.do("signIn", again=True)["status"] == 401


def test_removed_passkey_is_refused(page, root, key):
    Passkey.objects.all().delete()
    assert page.do("signIn")["status"] == 401


def test_counter_that_goes_back_is_refused(page, key):
    (stored,) = page.cdp("getCredentials", authenticatorId=key)["credentials"]
    assert page.do("signIn")["status"] == 200
    page.cdp("removeCredential", authenticatorId=key, credentialId=stored["credentialId"])
    page.cdp("addCredential", authenticatorId=key, credential={**stored, "signCount": 0})
    assert page.do("signIn")["status"] == 401


def test_missing_user_verification_is_refused(page, root, key):
    page.cdp("setUserVerified", authenticatorId=key, isUserVerified=False)
    assert page.do("signIn")["error"] == "NotAllowedError"
    assert page.do("secondFactor", root)["status"] == 200


def test_key_without_user_verification_is_a_second_factor(page, root):
    page.plug_in(transport="usb", hasUserVerification=False, hasResidentKey=False)
    assert page.do("register", root)["status"] == 201
    assert page.do("secondFactor", root)["status"] == 200


def test_origin_that_is_not_named_is_refused(page, root, key, configure):
    configure(PASSKEY_ORIGINS=["http://localhost:1"])
    assert page.do("signIn")["status"] == 401


def test_browser_refuses_another_domain(page, root, key, configure):
    configure(PASSKEY_RP_ID="clinic.example")
    assert page.do("signIn")["error"] == "SecurityError"


def test_policy_refuses_synced_keys_of_administrators(page, root, configure):
    configure(PASSKEY_POLICY={"admin": {"synced": False}})
    page.plug_in(defaultBackupEligibility=True, defaultBackupState=True)
    answer = page.do("register", root)
    assert (answer["status"], list(answer["field_errors"])) == (400, ["passkey"])
    page.unplug()
    page.plug_in()
    assert page.do("register", root)["status"] == 201


def test_attested_model_is_accepted_where_the_policy_lists_it(page, root, configure):
    configure(PASSKEY_POLICY={"admin": {"attestation": "direct"}})
    page.plug_in(transport="usb")
    answer = page.do("register", root)
    assert answer["status"] == 201, answer
    aaguid = str(Passkey.objects.get().aaguid)
    assert page.do("signIn")["status"] == 200
    configure(PASSKEY_POLICY={"admin": {"attestation": "direct", "aaguids": [aaguid]}})
    assert page.do("signIn")["status"] == 200
    other = "d8522d9f-575b-4866-88a9-ba99fa02f35b"
    configure(PASSKEY_POLICY={"admin": {"attestation": "direct", "aaguids": [other]}})
    assert (page.do("signIn")["status"], page.do("signIn")["code"]) == (403, "passkey_not_allowed")


class TestAdminSite:
    def open(self, page, path):
        page.driver.get(f"{page.site}{path}")

    def log_in(self, page):
        page.driver.find_element(By.CSS_SELECTOR, ".mm-passkey [type=submit]").click()
        WebDriverWait(page.driver, PATIENCE).until(
            lambda driver: driver.current_url == f"{page.site}/admin/"
        )

    def test_passkey_signs_in(self, page, root, key):
        self.open(page, "/admin/login/?next=/admin/")
        self.log_in(page)
        assert Session.objects.get(browser_key__gt="").second_factor

    def test_passkey_is_the_second_factor(self, page, root, key):
        self.open(page, "/admin/login/?next=/admin/")
        page.driver.find_element(By.NAME, "username").send_keys(root.email)
        page.driver.find_element(By.NAME, "password").send_keys(PASSWORD)
        page.driver.find_element(By.CSS_SELECTOR, "#login-form [type=submit]").click()
        WebDriverWait(page.driver, PATIENCE).until(
            lambda driver: "second-factor" in driver.current_url
        )
        self.log_in(page)

    def test_passkey_confirms_the_identity(self, page, root, key):
        self.open(page, "/admin/login/?next=/admin/")
        self.log_in(page)
        self.open(page, "/admin/login/reauthentication/?next=/admin/")
        self.log_in(page)
        assert Session.objects.get(browser_key__gt="").reauthenticated_at is not None

    def test_cancelled_request_is_explained(self, page, root, key):
        page.cdp("setUserVerified", authenticatorId=key, isUserVerified=False)
        self.open(page, "/admin/login/")
        note = page.driver.find_element(By.CSS_SELECTOR, ".mm-passkey .errornote")
        assert not note.is_displayed()
        page.driver.find_element(By.CSS_SELECTOR, ".mm-passkey [type=submit]").click()
        WebDriverWait(page.driver, PATIENCE).until(lambda _: note.is_displayed())
        assert note.text == "The passkey can't be used. Try again."
