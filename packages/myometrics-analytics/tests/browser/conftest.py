"""A real browser: Debian's packages ``chromium`` and ``chromium-driver``, through Selenium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service


def _program(*names: str) -> str:
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.fail(
        f"{names[0]} is not installed: apt-get install chromium chromium-driver", pytrace=False
    )


@pytest.fixture(scope="session")
def make_browser() -> Iterator[Callable[..., Any]]:
    """Starts headless browsers, with JavaScript or without; they end with the session."""
    started: list[Any] = []

    def make(*, javascript: bool = True) -> Any:
        options = Options()
        options.binary_location = _program("chromium", "chromium-browser", "google-chrome")
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        if not javascript:
            content = {"javascript": 2}
            options.add_experimental_option(
                "prefs", {"profile.managed_default_content_settings": content}
            )
        driver = webdriver.Chrome(options=options, service=Service(_program("chromedriver")))
        started.append(driver)
        return driver

    yield make
    for driver in started:
        driver.quit()


@pytest.fixture(scope="session")
def chromium(make_browser: Callable[..., Any]) -> Any:
    return make_browser()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: ``SCREENSHOTS``, else a temporary folder."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
