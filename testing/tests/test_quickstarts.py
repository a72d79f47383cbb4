"""A stranger who follows our instructions word for word gets what they promise.

In an environment of its own and a bare ``django-admin startproject``. What the packages need from
others is there beforehand, to save the index the trouble; ours come from wheels built here, by
the very ``pip install`` of the text.
"""

from __future__ import annotations

import subprocess
from functools import cache

import pytest
from environments import CURRENT, UV, rows

from myometrics_testing.commands.repository import PACKAGES, PREFIX, ROOT, package_folders
from myometrics_testing.walkthrough import Block, Walkthrough, blocks_in, section

pytestmark = pytest.mark.any_database

OURS = list(package_folders())
RECIPES = sorted(f"recipes/{path.name}" for path in (ROOT / "docs" / "recipes").glob("*.md"))
PAGES = ["embedding/worked-example.md", *RECIPES]


@pytest.fixture(scope="session")
def environment(wheels, tmp_path_factory):
    """A function that gives the programs of a row's Python: pip, and what our packages declare.

    None of our packages is installed.
    """

    @cache
    def make(row):
        folder = tmp_path_factory.mktemp(f"environment-{row.name}")
        python = str(folder / "bin" / "python")
        names = [f"{PREFIX}{name}" for name in OURS]
        django = [f"Django~={row.django}.0"] if row.django else []
        subprocess.run(
            [*UV, "-q", "venv", "--seed", "-p", row.interpreter(), str(folder)], check=True
        )
        subprocess.run(
            [
                *UV,
                "-q",
                "pip",
                "install",
                "-p",
                python,
                "--find-links",
                str(wheels),
                *names,
                *django,
            ],
            check=True,
        )
        subprocess.run([*UV, "-q", "pip", "uninstall", "-p", python, *names], check=True)
        return folder / "bin"

    return make


@pytest.fixture
def row():
    """The row of the matrix that instructions are followed on, unless a test names another."""
    return CURRENT


@pytest.fixture
def walkthrough(environment, row, wheels, tmp_path):
    only_ours = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_NO_CACHE_DIR": "1"}
    with Walkthrough(tmp_path, environment(row), only_ours) as walkthrough:
        yield walkthrough
    names = " ".join(f"{PREFIX}{name}" for name in OURS)
    walkthrough.run(f"pip uninstall -q -y {names}")


# What startproject writes about mail differs between versions of Django.
@pytest.mark.parametrize(
    ("package", "row"),
    [
        *((package, CURRENT) for package in OURS),
        ("core", rows()[-1]),
        ("notifications", rows()[-1]),
    ],
    ids=str,
)
def test_the_quickstart_of_a_package_does_what_it_says(package, walkthrough):
    readme = (PACKAGES / f"{PREFIX}{package}" / "README.md").read_text()
    walkthrough.follow(blocks_in(section(readme, "Quickstart")))
    installed = walkthrough.run("pip list --format=freeze")
    assert {name for name in OURS if f"{PREFIX}{name}==" in installed} == {"core", package}


def test_the_snippet_on_the_first_page_does_what_it_says(walkthrough):
    readme = (ROOT / "README.md").read_text()
    walkthrough.follow(blocks_in(section(readme, "In your own site")))


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_of_the_documentation_tells_to_do_works(page, walkthrough):
    walkthrough.follow(blocks_in((ROOT / "docs" / page).read_text()))


def test_a_block_that_says_something_else_than_what_is_printed_fails(walkthrough):
    walkthrough.follow([Block("console", "$ echo one two\none …\n")])
    with pytest.raises(AssertionError, match="one two"):
        walkthrough.follow([Block("console", "$ echo one two\ntwo\n")])
    with pytest.raises(AssertionError, match="false"):
        walkthrough.follow([Block("console", "$ false\n")])
