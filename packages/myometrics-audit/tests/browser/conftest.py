from __future__ import annotations

import os
from pathlib import Path

import pytest

from myometrics_testing.browser import chromium, make_browser  # noqa: F401


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory):
    """Where screenshots and PDFs go: ``SCREENSHOTS``, else a temporary folder."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
