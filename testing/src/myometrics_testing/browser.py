"""Fixtures for tests in a real browser: Debian's ``chromium`` and ``chromium-driver``, by Selenium.

A ``conftest.py`` imports them by name. A missing program fails the test, and the message says which
package to install.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from myometrics_testing.programs import find_program

ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
INSTALL_BROWSER = "apt-get install chromium chromium-driver"


def required_program(*names: str, install: str) -> str:
    """Return the path of the first of ``names`` that runs; if none does, fail with ``install``."""
    return find_program(*names) or _missing(names[0], install)


def _missing(name: str, install: str) -> NoReturn:
    pytest.fail(f"{name} is not installed, or does not run: {install}", pytrace=False)


@pytest.fixture(scope="session")
def make_browser() -> Iterator[Callable[..., Chrome]]:
    """Start headless browsers, with or without JavaScript; they are closed with the session."""
    started: list[Chrome] = []

    def make(*, javascript: bool = True) -> Chrome:
        driver = start_browser(javascript=javascript)
        started.append(driver)
        return driver

    yield make
    for driver in started:
        driver.quit()


@pytest.fixture(scope="session")
def chromium(make_browser: Callable[..., Chrome]) -> Chrome:
    """One headless browser for the whole session."""
    return make_browser()


def start_browser(*, javascript: bool = True) -> Chrome:
    """Start a headless browser; the caller quits it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    options = Options()
    options.binary_location = required_program(*names, install=INSTALL_BROWSER)
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if not javascript:
        content = {"profile.managed_default_content_settings": {"javascript": 2}}
        options.add_experimental_option("prefs", content)
    driver = required_program("chromedriver", install=INSTALL_BROWSER)
    return Chrome(options=options, service=Service(driver))
