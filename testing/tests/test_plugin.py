"""The plugin's behaviour in separate test runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VENDOR_TEST = """
import os, pytest

@pytest.mark.django_db
def test_vendor(database_vendor, request):
    from django.db import connection
    assert database_vendor == connection.vendor == os.environ["EXPECTED"]
    assert request.config.getoption("database") in (None, database_vendor)
"""
SHARED_FILE_TEST = """
import pytest

@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", range(4))
def test_threads_see_one_database(number, run_concurrently):
    from django.contrib.auth import get_user_model
    users = get_user_model().objects
    made = run_concurrently(
        [lambda name=name: users.create_user(f"{name}@clinic.test").pk for name in "abcd"]
    )
    assert {user.pk for user in users.all()} == set(made)
"""

# In two parts, so that `dev test` does not find the marker in this file.
PROGRAM_TEST = (
    "import pytest\n\n@pytest.mark.program"
    """("no-such-program")
def test_with_program():
    raise AssertionError

def test_without_program():
    pass
"""
)


@pytest.fixture
def run(pytester, monkeypatch, temporary_folder):
    """Run pytest in a process of its own on the given test source; it must leave no files."""
    monkeypatch.setenv("TMPDIR", str(temporary_folder))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("TEST_DATABASE", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "testing_test_settings")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    def _run(source, *options, expected="sqlite"):
        monkeypatch.setenv("EXPECTED", expected)
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess("-p", "no:hypothesispytest", *options)

    yield _run
    assert [name for name in os.listdir(temporary_folder) if name.startswith("mm-")] == []


def test_tests_without_program_are_skipped_and_named(run, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    result = run(PROGRAM_TEST)
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(["Left out: what needs no-such-program,*"])


def test_tests_without_program_fail_in_ci(run, monkeypatch):
    monkeypatch.setenv("CI", "true")
    run(PROGRAM_TEST).assert_outcomes(passed=1, failed=1)


def test_sqlite_is_the_default(run):
    run(VENDOR_TEST).assert_outcomes(passed=1)


def test_option_selects_database(run):
    result = run(VENDOR_TEST, "--database=postgresql", expected="postgresql")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["database: postgresql"])


def test_environment_selects_database(run, monkeypatch):
    monkeypatch.setenv("TEST_DATABASE", "postgresql")
    run(VENDOR_TEST, expected="postgresql").assert_outcomes(passed=1)


def test_given_database_url_is_used(run, monkeypatch, postgresql_server):
    monkeypatch.setenv("DATABASE_URL", postgresql_server.url)
    run(VENDOR_TEST, expected="postgresql").assert_outcomes(passed=1)


def test_option_contradicting_database_url_is_an_error(run, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "sqlite:////tmp/never-made.sqlite3")
    result = run(VENDOR_TEST, "--database=postgresql")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--database=postgresql, but DATABASE_URL is sqlite*"])


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["one process", "two workers"])
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_threads_share_test_database(run, database, options):
    result = run(SHARED_FILE_TEST, f"--database={database}", *options)
    result.assert_outcomes(passed=4)
