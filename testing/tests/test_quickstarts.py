"""A new user who follows our instructions word for word gets the documented output.

In an environment of its own and a bare ``django-admin startproject``. Third-party packages are
installed before; ours come from wheels built here, by the ``pip install`` of the text.
"""

from __future__ import annotations

import subprocess
from functools import cache

import dj_database_url
import pytest
from environments import CURRENT, UV, rows
from psycopg import connect

from myometrics_testing.commands.repository import PACKAGES, PREFIX, ROOT, package_folders
from myometrics_testing.walkthrough import Block, Walkthrough, blocks_in, section

pytestmark = pytest.mark.any_database

OURS = list(package_folders())
RECIPES = sorted(f"recipes/{path.name}" for path in (ROOT / "docs" / "recipes").glob("*.md"))
PAGES = ["audit/review.md", "embedding/worked-example.md", *RECIPES]
QUICKSTARTS = [
    "audit/access-report.md",
    "audit/legal-hold.md",
    "audit/recording.md",
    "audit/streams.md",
]


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
        with_extras = [*names, f"{PREFIX}auth[oidc]", "psycopg[binary]"]  # that pages install
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
                *with_extras,
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
def test_quickstart_of_a_package_works_as_written(package, walkthrough):
    readme = (PACKAGES / f"{PREFIX}{package}" / "README.md").read_text()
    walkthrough.follow(blocks_in(section(readme, "Quickstart")))
    installed = walkthrough.run("pip list --format=freeze")
    assert {name for name in OURS if f"{PREFIX}{name}==" in installed} == {"core", package}


def test_snippet_of_the_readme_works_as_written(walkthrough):
    readme = (ROOT / "README.md").read_text()
    walkthrough.follow(blocks_in(section(readme, "In your own site")))


@pytest.mark.parametrize("page", PAGES)
def test_page_of_the_documentation_works_as_written(page, walkthrough):
    walkthrough.follow(blocks_in((ROOT / "docs" / page).read_text()))


@pytest.mark.parametrize("page", QUICKSTARTS)
def test_quickstart_of_an_opt_in_app_works_as_written(page, walkthrough):
    walkthrough.follow(blocks_in(section((ROOT / "docs" / page).read_text(), "Quickstart")))


def test_quickstart_of_partitions_works_as_written(walkthrough, postgresql_server):
    server = dj_database_url.parse(postgresql_server.url)
    names = {"HOST": "PGHOST", "PORT": "PGPORT", "USER": "PGUSER", "PASSWORD": "PGPASSWORD"}
    walkthrough.variables |= {names[key]: str(server[key]) for key in names if server[key]}
    with connect(postgresql_server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE clinic")
    page = (ROOT / "docs/audit/partitions.md").read_text()
    walkthrough.follow(blocks_in(section(page, "Quickstart")))


def test_walkthrough_fails_if_the_output_differs_from_the_block(walkthrough):
    walkthrough.follow([Block("console", "$ echo one two\none …\n")])
    with pytest.raises(AssertionError, match="one two"):
        walkthrough.follow([Block("console", "$ echo one two\ntwo\n")])
    with pytest.raises(AssertionError, match="false"):
        walkthrough.follow([Block("console", "$ false\n")])
