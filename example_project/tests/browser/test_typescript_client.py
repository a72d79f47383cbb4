"""A front end at another origin, in a real browser, with types from the schema of the server.

``clients/typescript/tests/journey.ts`` has the steps; the expected results are here.
"""

from __future__ import annotations

import json
import re

import pytest
from running_site import ADMIN, PASSWORD
from selenium.webdriver.support.ui import WebDriverWait

from myometrics_testing.commands.repository import ROOT
from myometrics_testing.waiting import PATIENCE, avoid_midnight
from myometrics_testing.walkthrough import blocks_in

CREDENTIALS = {"email": ADMIN, "password": PASSWORD}
PAGE = "/tests/page.html"
CALL = """
const [name, given, done] = arguments;
import("/dist/tests/journey.js")
  .then((journey) => journey[name](...given))
  .then((answer) => done({ answer }), (error) => done({ error: String(error) }));
"""

GUIDE = ROOT / "docs" / "embedding" / "front-ends.md"
WHAT_THE_GUIDE_LEAVES_TO_THE_FRONT_END = """
declare const email: string, password: string;
declare function show(sentence: string): void;
declare function mark(problems: { [field: string]: string[] }): void;
declare function wait(seconds: number | null): void;
declare function askForCode(token: string): void;
"""


@pytest.fixture(scope="session")
def administrator(site):
    site.make_administrator()


def call(browser, origin, name, *given):
    """The result of the journey's function ``name`` on the page at ``origin``."""
    browser.get(f"{origin}{PAGE}")
    WebDriverWait(browser, PATIENCE).until(lambda page: page.title == "Front end")
    browser.set_script_timeout(PATIENCE)
    outcome = browser.execute_async_script(CALL, name, list(given))
    assert "error" not in outcome, outcome
    return outcome["answer"]


def test_typed_front_end_at_another_origin_works(chromium, typescript, site, origin, administrator):
    avoid_midnight()  # the upload is one of today
    seen = call(chromium, origin, "journey", site.url, CREDENTIALS)
    assert (seen["user"]["email"], seen["user"]["role"]) == (ADMIN, "admin")
    assert seen["refused"] == {"name": [400, ["firstName"]], "page": [404, "not_found"]}
    assert seen["renewed"] == {
        "statuses": [200, 200, 200],
        "same": False,
        "replaced": True,
        "renewals": 1,
    }
    assert seen["clinic"] == "North"
    assert seen["entries"] == [seen["entry"]]
    assert seen["uploads"] == [0, 0, 0, 0, 0, 0, 1]
    after = ["token_not_valid", "not_authenticated"]
    assert seen["ended"] == {"status": 200, "after": after, "signedOut": True}


def test_client_can_read_retry_after(chromium, typescript, site, origin, administrator):
    seen = call(chromium, origin, "tooMany", site.url, {**CREDENTIALS, "password": "guess"})
    assert seen["code"] == "throttled"
    assert 1 <= seen["seconds"] <= 3600
    assert seen["attempt"] <= 5


def test_browser_blocks_origin_that_is_not_allowed(chromium, typescript, site, origin):
    elsewhere = origin.replace("localhost", "127.0.0.1")
    assert call(chromium, elsewhere, "uninvited", site.url) == "kept away"
    assert call(chromium, origin, "uninvited", site.url) == "answered 401"


def test_guide_examples_compile(typescript):
    [shown] = [b.text for b in blocks_in(GUIDE.read_text()) if b.language == "typescript"]
    guide = typescript.folder / "src" / "guide.ts"
    guide.write_text(WHAT_THE_GUIDE_LEAVES_TO_THE_FRONT_END + shown)
    typescript.npm("run", "check")


def test_breaking_api_change_does_not_compile(typescript):
    schema = typescript.folder / "openapi.json"
    as_it_was = schema.read_text()
    document = json.loads(as_it_was)
    error = document["components"]["schemas"]["Error"]
    error["properties"]["problems"] = error["properties"].pop("field_errors")
    try:
        schema.write_text(json.dumps(document))
        typescript.npm("run", "generate")
        assert "field_errors" in typescript.npm("run", "check", status=2)
    finally:
        schema.write_text(as_it_was)
        typescript.npm("run", "generate")


def test_lock_file_has_digests_and_no_registry(typescript):
    lock = (typescript.folder / "package-lock.json").read_text()
    packages = json.loads(lock)["packages"]
    assert not re.search(r'"resolved"|registry', lock)
    assert all("integrity" in package for name, package in packages.items() if name)
    pinned = packages[""]["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in pinned.values())
