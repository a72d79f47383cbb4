"""The admin site's login in headless Chromium, under a content security policy."""

from __future__ import annotations

import base64

import pyotp
import pytest
from conftest import PASSWORD
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.test import override_settings
from pytest_django.live_server_helper import LiveServer
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from myometrics_auth.encryption import encrypt_secret
from myometrics_auth.models import TotpDevice
from myometrics_core.api import rate_limiter
from myometrics_core.times import utc_now
from myometrics_testing.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture(scope="module")
def site():
    """The address of the site, which allows nothing inline."""
    middleware = ["hosts_own.StrictPolicyMiddleware", *django_settings.MIDDLEWARE]
    with override_settings(MIDDLEWARE=middleware):
        server = LiveServer("localhost")
        yield server.url
        server.stop()


@pytest.fixture
def root(transactional_db):
    return get_user_model().objects.create_superuser("root@clinic.example", PASSWORD)


@pytest.fixture
def page(chromium, site, screenshots):
    chromium.get(f"{site}/whoami/")
    chromium.delete_all_cookies()
    chromium.get_log("browser")
    return Page(chromium, site, screenshots)


class Page:
    """A browser with the site in it."""

    def __init__(self, driver, site, screenshots):
        self.driver, self.site, self.screenshots = driver, site, screenshots

    def open(self, path):
        self.driver.get(f"{self.site}{path}")

    def sign_in(self, user, password=PASSWORD):
        self.open("/admin/")
        self.fill(username=user.email, password=password)

    def fill(self, **values):
        """Fill in the form, send it, and wait for the page that comes."""
        before = self.driver.find_element(By.TAG_NAME, "html")
        for name, value in values.items():
            self.driver.find_element(By.NAME, name).send_keys(value)
        self.driver.find_element(By.CSS_SELECTOR, ".submit-row input").click()
        WebDriverWait(self.driver, PATIENCE).until(lambda _: _is_gone(before))

    @property
    def path(self):
        return str(self.driver.current_url).removeprefix(self.site)

    @property
    def text(self):
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    @property
    def focused(self):
        return str(self.driver.switch_to.active_element.get_attribute("name"))

    def label_of(self, name):
        return str(self.driver.find_element(By.NAME, name).accessible_name)

    def picture(self, name):
        answer = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True}
        )
        (self.screenshots / f"{name}.png").write_bytes(base64.b64decode(answer["data"]))

    def problems(self):
        """What the browser has complained of: what the policy forbids, what is missing."""
        lines = [str(line["message"]) for line in self.driver.get_log("browser")]
        return [line for line in lines if "favicon" not in line and "429" not in line]


def _is_gone(element):
    try:
        return not element.is_enabled()
    except Exception:
        return True


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_user_with_an_app_signs_in_with_its_code(page, root, theme):
    secret = encrypt_secret(SECRET, owner=root.pk)
    TotpDevice.objects.create(user=root, secret=secret, confirmed_at=utc_now())
    media = [{"name": "prefers-color-scheme", "value": theme}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    page.sign_in(root)
    assert page.path == "/admin/login/second-factor/?next=%2Fadmin%2F"
    assert (page.focused, page.label_of("code")) == ("code", "Code:")
    page.fill(code="000000")
    assert "The code is not right." in page.text
    page.picture(f"second-factor-{theme}")
    page.fill(code=pyotp.TOTP(SECRET).at(utc_now()))
    assert page.path == "/admin/"
    assert "Log out" in page.text.title() or "LOG OUT" in page.text
    assert page.problems() == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_user_whose_role_requires_one_enrols_with_a_qr_code(page, root, settings, theme):
    settings.MYOMETRICS_AUTH = {"MFA_REQUIRED_ROLES": ["admin"]}
    media = [{"name": "prefers-color-scheme", "value": theme}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    page.sign_in(root)
    assert page.path == "/admin/login/enrolment/?next=%2Fadmin%2F"
    code = page.driver.find_element(By.CSS_SELECTOR, ".mm-qr-code")
    assert code.accessible_name == "QR code for the authenticator app"
    drawing = code.find_element(By.TAG_NAME, "svg")
    assert drawing.size["width"] == drawing.size["height"] > 150
    page.picture(f"enrolment-{theme}")
    secret = page.driver.find_element(By.CSS_SELECTOR, ".mm-secret").text.replace(" ", "")
    page.fill(code=pyotp.TOTP(secret).at(utc_now()))
    assert len(page.driver.find_elements(By.CSS_SELECTOR, ".mm-recovery-codes li")) == 10
    page.picture(f"recovery-codes-{theme}")
    page.driver.find_element(By.LINK_TEXT, "Continue").click()
    WebDriverWait(page.driver, PATIENCE).until(lambda _: page.path == "/admin/")
    assert page.problems() == []


def test_throttled_user_sees_the_waiting_time(page, root, settings):
    limits = {"auth": "2/hour", "api": None, "export": None}
    settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": limits}
    rate_limiter.reset()
    page.open("/admin/login/")
    assert page.focused == "username"
    for _ in range(3):
        page.fill(username=root.email, password="wrong")
        page.picture("wrong-password")
        if page.driver.find_elements(By.NAME, "username"):
            page.driver.find_element(By.NAME, "username").clear()
    assert "Too many attempts" in page.text
    page.picture("throttled")
    assert page.problems() == []


def test_an_ended_session_signs_the_browser_out(page, root):
    page.sign_in(root)
    assert page.path == "/admin/"
    root.sessions.end()
    page.open("/whoami/")
    assert page.text == ""
    page.open("/admin/")
    assert page.path == "/admin/login/?next=/admin/"
