"""The documents list exactly the settings, endpoints, checks and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from myometrics_auth import checks, urls
from myometrics_auth.conf import auth_settings

README = (Path(__file__).parents[1] / "README.md").read_text()
TESTS = Path(__file__).parent
DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize(
    "setting", list(auth_settings.declared()), ids=lambda setting: setting.name
)
def test_every_setting_is_in_the_readme_and_described(setting):
    assert f"| `{setting.name}` |" in README
    assert setting.description


def test_readme_lists_no_unknown_setting():
    table = README.split("## Settings")[1].split("## ")[0]
    documented = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert documented == {setting.name for setting in auth_settings.declared()}


@pytest.mark.parametrize("pattern", urls.urlpatterns, ids=lambda pattern: pattern.name)
def test_every_endpoint_is_in_the_readme(pattern):
    route = re.sub(r"<[^>]+>", "{id}", str(pattern.pattern))
    shortened = f"…/{route.removeprefix('auth/mfa/')}"
    assert route in README or shortened in README


def test_every_check_is_in_the_readme():
    source = Path(checks.__file__).read_text()
    for number in set(re.findall(r'"(?:myometrics_auth\.)?([EW]\d{3})"', source)):
        assert f"`{number}`" in README


@pytest.mark.parametrize("page", ["security.md", "auth/security-model.md"])
def test_every_test_named_in_the_security_model_exists(page):
    sources = {path.name: path.read_text() for path in TESTS.glob("test_*.py")}
    named = re.findall(r"`((?:test_\w+\.py|Test\w+)[\w:]*)`", (DOCS / page).read_text())
    assert len(named) > 20
    for name in named:
        module, *members = name.split("::") if name.startswith("test_") else ["", name]
        source = sources[module] if module else "\n".join(sources.values())
        for member in members:
            assert re.search(rf"^\s*(class|def) {member}\b", source, re.MULTILINE), name
