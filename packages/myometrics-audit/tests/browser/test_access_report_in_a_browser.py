"""The access report in headless Chromium: found by its form, readable, and printed to PDF."""

from __future__ import annotations

import base64
import re

import pytest
from django.test import Client
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from myometrics_audit import audit
from myometrics_audit.models import AuditLog
from myometrics_testing.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = "/admin/myometrics_audit_access_report/accessreport/"
HIDDEN_ON_PAPER = ("#header", ".breadcrumbs", ".ar-form", ".ar-tools")
PRINTABLE = """
return [...document.querySelectorAll(arguments[0])]
  .filter(element => element.getClientRects().length > 0).length
"""


@pytest.fixture
def site(live_server, settings, user):
    """The address of a site with 80 entries about ``p1``."""
    settings.MYOMETRICS_AUDIT = {
        **settings.MYOMETRICS_AUDIT,
        "ACCESS_REPORT_CLINIC": "North Clinic",
        "ACCESS_REPORT_USER_NAME": lambda user: "Nurse",
    }
    audit.record_many(
        audit.entry(
            actor=user,
            action="report_viewed",
            resource=("clinic.report", f"report-{number}"),
            data_subject="p1",
            purpose="treatment",
        )
        for number in range(80)
    )
    return live_server.url


@pytest.fixture
def reviewer_at(chromium, site, django_user_model):
    """The browser, signed in to the admin and at the page."""
    client = Client()
    client.force_login(django_user_model.objects.create_superuser(email="root@site.test"))
    chromium.get(f"{site}/admin/login/")
    chromium.add_cookie({"name": "sessionid", "value": client.cookies["sessionid"].value})
    chromium.get(f"{site}{PAGE}")
    return chromium


def show_report(driver, subject):
    driver.find_element(By.NAME, "data_subject").send_keys(subject)
    driver.find_element(By.CSS_SELECTOR, ".ar-form button").click()
    wait = WebDriverWait(driver, PATIENCE)
    return wait.until(lambda d: d.find_element(By.CSS_SELECTOR, ".ar-report"))


def take_picture(driver, path):
    answer = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    path.write_bytes(base64.b64decode(answer["data"]))


def test_report_is_found_by_its_form_and_readable(reviewer_at, screenshots):
    report = show_report(reviewer_at, "p1")
    assert report.find_element(By.CSS_SELECTOR, ".ar-clinic").text == "North Clinic"
    assert report.find_element(By.CSS_SELECTOR, ".ar-count").text == "80"
    rows = report.find_elements(By.CSS_SELECTOR, "tbody tr")
    assert len(rows) == 80
    cells = [cell.text for cell in rows[0].find_elements(By.TAG_NAME, "td")]
    assert cells[1:] == ["Nurse", "Opened", "Clinic report report-79", "treatment"]
    assert AuditLog.objects.filter(action="access_report_viewed").count() == 1
    errors = [line for line in reviewer_at.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in errors if "favicon" not in line["message"]] == []
    take_picture(reviewer_at, screenshots / "access-report.png")


def test_report_prints_only_the_report_on_several_pages(reviewer_at, screenshots):
    show_report(reviewer_at, "p1")
    reviewer_at.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        for selector in HIDDEN_ON_PAPER:
            assert reviewer_at.execute_script(PRINTABLE, selector) == 0, selector
        assert reviewer_at.execute_script(PRINTABLE, ".ar-report tbody tr") == 80
        colour = "return getComputedStyle(document.querySelector('.ar-report td')).color"
        assert reviewer_at.execute_script(colour) == "rgb(0, 0, 0)"
        take_picture(reviewer_at, screenshots / "access-report-on-paper.png")
    finally:
        reviewer_at.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    printed = reviewer_at.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    pdf = base64.b64decode(printed["data"])
    (screenshots / "access-report.pdf").write_bytes(pdf)
    assert pdf.startswith(b"%PDF")
    # The rows fill more than one page: nothing is cut off at the first.
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 2


def test_print_button_opens_the_print_dialog(reviewer_at):
    show_report(reviewer_at, "p1")
    reviewer_at.execute_script("window.print = () => { window.printed = true; };")
    reviewer_at.find_element(By.CSS_SELECTOR, "[data-print]").click()
    assert reviewer_at.execute_script("return window.printed") is True


def test_report_fits_a_phone_screen(reviewer_at):
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    reviewer_at.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        show_report(reviewer_at, "p1")
        wide = reviewer_at.execute_script(
            "return [...document.querySelectorAll('.ar, .ar *')]"
            ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.className)"
        )
    finally:
        reviewer_at.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide == []
