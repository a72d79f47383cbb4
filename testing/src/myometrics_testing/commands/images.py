"""``dev docs images``: screenshots for the README, taken in a browser from the example's demo."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from myometrics_testing.browser import start_browser
from myometrics_testing.commands.repository import EXAMPLE, ROOT, clean_environment
from myometrics_testing.services import free_port
from myometrics_testing.waiting import wait_for

FOLDER = ROOT / "docs" / "images"
SIZE = (1280, 1600)
EMAIL, PASSWORD = "admin@example.com", "myometrics-demo"
DASHBOARD = "/admin/myometrics_analytics/dashboard/"


def write_images() -> int:
    """Write ``docs/images/*.png`` in about 30 seconds. Needs Chromium and its driver."""
    with demo() as url:
        browser = start_browser()
        try:
            browser.set_window_size(*SIZE)
            _sign_in(browser, url)
            _take(browser, "dashboard", f"{url}{DASHBOARD}", shown="svg")
            _take(browser, "api", f"{url}/api/docs/", shown=".opblock")
        finally:
            browser.quit()
    return 0


@contextmanager
def demo() -> Iterator[str]:
    """Serve the example with its own demo data for the block; yields its URL."""
    url = f"http://localhost:{free_port()}"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "manage.py", "demo", url.removeprefix("http://")]
        environment = clean_environment(DEBUG="true", DATA_DIR=folder)
        log = Path(folder) / "log"
        with log.open("w") as output:
            site = subprocess.Popen(
                command, cwd=EXAMPLE, env=environment, stdout=output, stderr=output
            )
        try:
            wait_for(lambda: _is_ready(url), log=log.read_text)
            yield url
        finally:
            site.terminate()
            site.wait()


def _is_ready(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz").is_success
    return False


def _sign_in(browser: Chrome, url: str) -> None:
    browser.get(f"{url}/admin/")
    browser.find_element(By.NAME, "username").send_keys(EMAIL)
    browser.find_element(By.NAME, "password").send_keys(PASSWORD)
    browser.find_element(By.CSS_SELECTOR, "[type=submit]").click()


def _take(browser: Chrome, name: str, url: str, *, shown: str) -> None:
    """Take the screenshot ``name`` of a page when an element matches the selector ``shown``."""
    browser.get(url)
    wait_for(lambda: browser.find_elements(By.CSS_SELECTOR, shown))
    browser.save_screenshot(str(FOLDER / f"{name}.png"))
    print(f"docs/images/{name}.png")
