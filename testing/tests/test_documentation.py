"""The documentation is complete, in order, and readable at 1,280 pixels."""

from __future__ import annotations

import re

import pytest
import yaml

from myometrics_testing.commands.documents import reference_page
from myometrics_testing.commands.public_names import PUBLIC
from myometrics_testing.commands.repository import PACKAGES, ROOT
from myometrics_testing.walkthrough import blocks_in

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DECISIONS = sorted(DOCS.glob("adr/*.md"))
OUTSIDE = sorted([*ROOT.glob("*.md"), *PACKAGES.glob("*/README.md")])
MAX_CODE_COLUMNS = 88
"""What fits beside the navigation at 1,280 pixels; see ``docs/stylesheets/width.css``."""
MAX_DECISION_WORDS = 450
MAX_LEAD_WORDS = 90


def page_name(path):
    return str(path.relative_to(DOCS))


def listed_pages(entries):
    """Yield the pages of a navigation, in order."""
    for entry in entries:
        if isinstance(entry, dict):
            for value in entry.values():
                yield from listed_pages(value if isinstance(value, list) else [value])
        else:
            yield entry


def navigation():
    return yaml.load((ROOT / "mkdocs.yml").read_text(), Loader=yaml.BaseLoader)["nav"]


def test_navigation_lists_each_page_once():
    assert sorted(listed_pages(navigation())) == sorted(map(page_name, PAGES))


def test_navigation_begins_with_start_and_ends_with_decisions():
    titles = [title for section in navigation() for title in section]
    assert (titles[0], titles[-1]) == ("Start", "Decisions")


def test_decisions_are_numbered_without_gaps():
    numbers = [int(path.name[:4]) for path in DECISIONS]
    titles = [int(path.read_text().partition(".")[0].removeprefix("# ")) for path in DECISIONS]
    assert numbers == titles == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("path", DECISIONS, ids=page_name)
def test_decision_fits_one_page(path):
    assert len(path.read_text().split()) <= MAX_DECISION_WORDS


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_page_begins_with_its_purpose(path):
    title, _, rest = path.read_text().partition("\n\n")
    lead = rest.partition("\n\n")[0]
    assert title.startswith("# ")
    assert "\n" not in title
    assert re.match(r"[A-Z`*]", lead), lead
    assert len(lead.split()) <= MAX_LEAD_WORDS


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_code_fits_its_column_at_1280_pixels(path):
    lines = [line for block in blocks_in(path.read_text()) for line in block.text.splitlines()]
    assert [line for line in lines if len(line) > MAX_CODE_COLUMNS] == []


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_has_a_description(package):
    rows = re.findall(r"^\| `myometrics_.+$", reference_page(package).read_text(), re.MULTILINE)
    assert rows
    assert [row for row in rows if row.endswith("|  |")] == []


def slug(heading):
    plain = re.sub(r"[^\w\s-]", "", re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", heading)).strip()
    return re.sub(r"[-\s]+", "-", plain).lower()


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_readmes_lead_to_files_and_headings(path):
    for link, anchor in re.findall(r"\]\(((?!https?:)[^)#\s]*)#?([^)\s]*)\)", path.read_text()):
        target = (path.parent / link).resolve() if link else path
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), f"{link}#{anchor}"


def exists_in_a_package(path):
    pattern = path.replace("src/…/", "src/*/")
    return any(True for _ in PACKAGES.glob(f"*/{pattern}"))


def test_contributing_names_existing_files():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`((?:src|tests)/[^`<\s]+)`", text)
    assert len(paths) > 15
    assert [path for path in paths if not exists_in_a_package(path)] == []
