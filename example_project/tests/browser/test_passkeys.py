"""Passkeys of a front end at another origin, in Chromium with a virtual authenticator.

``clients/typescript/tests/passkeys.ts`` has the steps. Attacks are tested in auth's suite.
"""

from __future__ import annotations

import pytest
from running_site import ADMIN, PASSWORD, RunningSite
from selenium.webdriver.common.virtual_authenticator import VirtualAuthenticatorOptions
from selenium.webdriver.support.ui import WebDriverWait

from myometrics_testing.waiting import PATIENCE

PAGE = "/tests/page.html"
CALL = """
const [name, given, done] = arguments;
import("/dist/tests/passkeys.js")
  .then((passkeys) => passkeys[name](...given))
  .then((answer) => done({ answer }), (error) => done({ error: String(error) }));
"""
CREDENTIALS = {"email": ADMIN, "password": PASSWORD}


@pytest.fixture(scope="module")
def passkey_site(origin, tmp_path_factory):
    """The composed site with its default of origins and domain, and no rate limit in the way."""
    folder = tmp_path_factory.mktemp("passkeys")
    running = RunningSite(folder, f"sqlite:///{folder / 'site.sqlite3'}", None)
    running.environment |= {
        "CORS_ALLOWED_ORIGINS": f"{origin},https://clinic.example",
        "FRONTEND_URL": origin,
        "RATE_LIMIT_AUTH": "1000/hour",
    }
    try:
        running.start()
        running.make_administrator()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def browser(make_browser, typescript, passkey_site):
    """A browser of its own, with an authenticator."""
    driver = make_browser()
    options = VirtualAuthenticatorOptions(
        protocol=VirtualAuthenticatorOptions.Protocol.CTAP2,
        transport=VirtualAuthenticatorOptions.Transport.INTERNAL,
        has_resident_key=True,
        has_user_verification=True,
        is_user_verified=True,
    )
    driver.add_virtual_authenticator(options)
    return driver


@pytest.fixture(scope="module")
def registered(browser, origin, passkey_site):
    """The answer to the registration of a passkey."""
    return call(browser, origin, "register", passkey_site.url, CREDENTIALS)


def call(browser, origin, name, *given):
    """The result of the function ``name`` on the page at ``origin``."""
    browser.get(f"{origin}{PAGE}")
    WebDriverWait(browser, PATIENCE).until(lambda page: page.title == "Front end")
    browser.set_script_timeout(PATIENCE)
    outcome = browser.execute_async_script(CALL, name, list(given))
    assert "error" not in outcome, outcome
    return outcome["answer"]


def test_passkey_is_created_with_recovery_codes(registered):
    assert registered == {"status": 201, "codes": 10, "problems": []}


def test_passkey_signs_in_alone(registered, browser, origin, passkey_site):
    seen = call(browser, origin, "signIn", passkey_site.url)
    assert seen == {"status": 200, "email": ADMIN, "secondFactor": True}


def test_passkey_signs_in_from_the_form_field(registered, browser, origin, passkey_site):
    seen = call(browser, origin, "signIn", passkey_site.url, {"conditional": True})
    assert seen == {"status": 200, "email": ADMIN, "secondFactor": True}


def test_passkey_is_the_second_factor(registered, browser, origin, passkey_site):
    assert call(browser, origin, "secondFactor", passkey_site.url, CREDENTIALS) == 200


def test_replayed_response_is_refused(registered, browser, origin, passkey_site):
    assert call(browser, origin, "replay", passkey_site.url) == [200, 401]


def test_passkey_is_not_registered_twice(registered, browser, origin, passkey_site):
    seen = call(browser, origin, "register", passkey_site.url, CREDENTIALS)
    assert seen["status"] in {"InvalidStateError", "Error"}
