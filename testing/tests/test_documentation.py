"""Whoever looks for something in the documentation finds the way to it."""

from __future__ import annotations

import re

import pytest

from myometrics_testing.commands.repository import ROOT

DOCS = ROOT / "docs"
FOLDERS = sorted({path.parent for path in DOCS.rglob("*.md")})
LINK = re.compile(r"\]\(([^)#]+\.md)")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_index_of_a_folder_leads_to_every_page_in_it(folder):
    index = folder / "index.md"
    linked = {(folder / link).resolve() for link in LINK.findall(index.read_text())}
    assert {path for path in folder.glob("*.md") if path != index} - linked == set()


def test_the_first_page_leads_to_every_folder():
    linked = {
        (DOCS / link).resolve().parent for link in LINK.findall((DOCS / "index.md").read_text())
    }
    assert {folder for folder in FOLDERS if folder != DOCS} - linked == set()


def test_every_public_name_is_told_of():
    rows = re.findall(r"^\| `.+$", (ROOT / "docs/reference/public-names.md").read_text(), re.M)
    assert rows
    assert [row for row in rows if row.endswith("|  |")] == []
