"""The dashboard in headless Chromium: drawn, legible, usable with and without JavaScript."""

from __future__ import annotations

import math
import random
import zlib
from datetime import datetime, timedelta, timezone

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from pytest_django.live_server_helper import LiveServer
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from myometrics_analytics.facts import Origin, UploadEvent, uploads_merge
from myometrics_analytics.models import Status
from myometrics_analytics.rollups import changes_fold
from myometrics_testing.waiting import wait_for

pytestmark = pytest.mark.django_db
PAGE = "/admin/myometrics_analytics/dashboard/"
DIAGNOSES = {
    "Normal": 50,
    "Myocardial infarction": 18,
    "Atrial fibrillation": 12,
    "Left ventricular hypertrophy": 9,
    "Bundle branch block": 6,
    "Pericarditis": 3,
    "Cardiomyopathy": 2,
}

# The lowest contrast of any text in the page with what is painted behind it (WCAG 2.2).
LOWEST_CONTRAST = """
const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
  .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const parse = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
const ground = element => {
  for (let e = element; e; e = e.parentElement) {
    const colour = parse(getComputedStyle(e).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
let worst = [99, ''];
for (const element of document.querySelectorAll('.mm *')) {
  const own = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  const box = element.getBoundingClientRect();
  if (!own || box.width < 2 || element.closest('title, desc, option')) continue;
  const style = getComputedStyle(element);
  const ink = parse(element instanceof SVGElement ? style.fill : style.color);
  const [a, b] = [luminance(ink), luminance(ground(element))].sort((x, y) => y - x);
  const contrast = (a + 0.05) / (b + 0.05);
  if (contrast < worst[0]) worst = [contrast, element.outerHTML.slice(0, 120)];
}
return worst;
"""


def have_a_busy_year():
    chance = random.Random(4)
    users = [
        get_user_model().objects.create_user(
            email=f"p{number}@site.test", full_name=["North Clinic", "South Clinic"][number % 2]
        )
        for number in range(12)
    ]
    now, events = datetime.now(timezone.utc), []
    for back in range(800):
        weekday = (now - timedelta(days=back)).weekday()
        expected = (9 if weekday < 5 else 3) * (1.25 - back / 900) * (1 + math.sin(back / 40) / 4)
        for number in range(max(0, round(chance.gauss(expected, 2)))):
            has_failed = chance.random() < 0.05
            events.append(
                UploadEvent(
                    user_id=chance.choice(users).pk,
                    upload_id=f"u{back}-{number}",
                    uploaded_at=now - timedelta(days=back),
                    status=Status.FAILED if has_failed else Status.COMPLETED,
                    origin=Origin.COMPLETED,
                    diagnosis=None
                    if has_failed
                    else chance.choices(list(DIAGNOSES), list(DIAGNOSES.values()))[0],
                    processing_us=chance.randrange(20_000_000, 70_000_000),
                )
            )
    uploads_merge(events=events)
    changes_fold()


@pytest.fixture(scope="module")
def site(django_db_setup, django_db_blocker):
    """The address of a site after a busy year. No test changes anything there."""
    with django_db_blocker.unblock():
        have_a_busy_year()
        server = LiveServer("localhost")
        yield server.url
        server.stop()
        call_command("flush", interactive=False, verbosity=0)


@pytest.fixture(scope="module")
def sign_in(site, django_db_blocker):
    """Signs a browser in to the admin as an administrator."""
    with django_db_blocker.unblock():
        client = Client()
        client.force_login(get_user_model().objects.create_superuser(email="admin@site.test"))

    def signed_in(driver):
        driver.get(f"{site}/admin/login/")
        driver.add_cookie({"name": "sessionid", "value": client.cookies["sessionid"].value})
        return driver

    return signed_in


def show(driver, url, *, theme="light", width=1360):
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": theme}]},
    )
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.get(url)


def picture(driver, path):
    import base64

    answer = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    path.write_bytes(base64.b64decode(answer["data"]))
    return path.read_bytes()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("days", [7, 30, 90, 365])
def test_dashboard_is_drawn_and_legible(chromium, sign_in, site, screenshots, theme, days):
    driver = sign_in(chromium)
    show(driver, f"{site}{PAGE}?days={days}", theme=theme)
    image = picture(driver, screenshots / f"dashboard-{theme}-{days}.png")
    columns = driver.find_elements(By.CSS_SELECTOR, "#chart-daily .mm-column .mm-bar")
    assert len(columns) == days
    assert sum(column.size["height"] > 1 for column in columns) > days / 2
    for chart in driver.find_elements(By.CSS_SELECTOR, "svg[role=img]"):
        assert chart.size["width"] > 300
        assert chart.aria_role in {"image", "img"}
        assert chart.accessible_name
    contrast, where = driver.execute_script(LOWEST_CONTRAST)
    assert contrast >= 4.5, where
    errors = [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in errors if "favicon" not in line["message"]] == []
    assert len(zlib.compress(image)) > 20_000, "a blank page compresses to less"


def test_bars_contrast_with_the_page_in_both_themes(chromium, sign_in, site):
    driver = sign_in(chromium)
    fills = []
    for theme in ("light", "dark"):
        show(driver, f"{site}{PAGE}", theme=theme)
        fills.append(
            driver.execute_script(
                "const c = e => getComputedStyle(document.querySelector(e));"
                "return [c('.mm-column .mm-bar').fill, c('.mm-card').backgroundColor]"
            )
        )
    assert fills[0] != fills[1]
    for fill, ground in fills:
        assert fill != ground


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_dashboard_fits_a_phone_screen(chromium, sign_in, site, screenshots, theme):
    driver = sign_in(chromium)
    show(driver, f"{site}{PAGE}", width=390, theme=theme)
    picture(driver, screenshots / f"dashboard-phone-{theme}.png")
    wide = driver.execute_script(
        "return [...document.querySelectorAll('.mm, .mm *')]"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1"
        " && !e.closest('svg')).map(e => e.className)"
    )
    assert wide == []


def test_dashboard_works_without_javascript(make_browser, sign_in, site, screenshots):
    driver = sign_in(make_browser(javascript=False))
    driver.get(f"{site}{PAGE}")
    driver.find_element(By.LINK_TEXT, "90 days").click()
    wait_for(lambda: "days=90" in driver.current_url)
    assert len(driver.find_elements(By.CSS_SELECTOR, "#chart-daily .mm-column")) == 90
    whole = driver.find_element(By.CSS_SELECTOR, ".mm-value").text
    Select(driver.find_element(By.NAME, "diagnosis")).select_by_visible_text("Pericarditis")
    driver.find_element(By.CSS_SELECTOR, ".mm-filters button").click()
    wait_for(lambda: "diagnosis=Pericarditis" in driver.current_url)
    assert "days=90" in driver.current_url
    assert int(driver.find_element(By.CSS_SELECTOR, ".mm-value").text) < int(whole.replace(",", ""))
    assert [
        row.text for row in driver.find_elements(By.CSS_SELECTOR, ".mm-diagnoses tbody th")
    ] == ["Pericarditis"]
    summary = driver.find_element(By.CSS_SELECTOR, "#chart-daily summary")
    summary.send_keys(Keys.ENTER)
    table = driver.find_element(By.CSS_SELECTOR, "#chart-daily table")
    assert table.is_displayed()
    assert len(table.find_elements(By.CSS_SELECTOR, "tbody tr")) == 90
    picture(driver, screenshots / "dashboard-no-javascript.png")


def test_download_links_work(chromium, sign_in, site):
    driver = sign_in(chromium)
    show(driver, f"{site}{PAGE}?days=7")
    for name, start in (("CSV", "section,name"), ("JSON", "{")):
        link = driver.find_element(By.LINK_TEXT, name).get_attribute("href")
        assert "days=7" in link
        text = driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "fetch(arguments[0]).then(r => r.text()).then(done)",
            link,
        )
        assert text.startswith(start)
