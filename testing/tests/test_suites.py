"""The test suites and their servers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest
from _pytest.mark.expression import Expression

from myometrics_testing.commands.jobs import Job
from myometrics_testing.commands.suites import (
    ASGI,
    PARTITIONED,
    Part,
    Suite,
    all_suites,
    asgi_suite,
    browser_suites,
    container_suite,
    marked_suites,
    missing_programs,
    partitioned_suite,
    pytest_job,
    servers,
)
from myometrics_testing.commands.test import (
    chosen_suites,
    main,
    run_in_turn,
    run_suites,
    split_at_dashes,
)

URLS = {"postgresql": "postgresql://postgres@%2Ftmp%2Fx/postgres", "redis": "redis://h:1/0"}


def environment_of(suite):
    return dict(pytest_job(suite, URLS, "/7", Path("report.xml"), []).environment)


def suite(name, database, *, redis=True):
    return Suite(name=name, folder=Path(name), database=database, redis=redis)


def test_packages_and_example_run_on_both_databases():
    names = {"core", "auth", "audit", "analytics", "notifications", "example"}
    others = [partitioned_suite(), asgi_suite(), container_suite()]
    left_out = {suite.name for suite in [*browser_suites(), *others]}
    found = {
        (suite.name, suite.database)
        for suite in all_suites()
        if suite.name not in left_out and suite.part is Part.USUAL
    }
    assert found == {
        (name, database) for name in names for database in ("sqlite", "postgresql")
    } | {("testing", "sqlite")}


def test_tests_with_own_servers_run_once(tmp_path):
    (tmp_path / "test_faults.py").write_text(f"pytestmark = {'pytest.mark'}.any_database")
    both = [
        Suite(name="audit", folder=tmp_path, database=database)
        for database in ("sqlite", "postgresql")
    ]
    (own,) = marked_suites(both, Part.ANY_DATABASE)
    assert (own.name, own.folder, str(own)) == ("audit", tmp_path, "audit, any database")
    assert marked_suites(both, Part.ALONE) == []


@pytest.mark.parametrize(
    "marks",
    [(), ("any_database",), ("long",), ("alone",), ("any_database", "alone"), ("long", "alone")],
    ids=str,
)
def test_every_test_is_in_exactly_one_part(marks):
    def is_in(part):
        return Expression.compile(part.value).evaluate(lambda name, **_: name in marks)

    assert len([part for part in Part if is_in(part)]) == 1


def test_suites_that_measure_time_run_alone():
    command = [
        sys.executable,
        "-c",
        "import time; print(time.monotonic()); print(time.monotonic())",
    ]
    parts = [("a", Part.ALONE), ("b", Part.ALONE), ("c", Part.USUAL), ("d", Part.ANY_DATABASE)]
    jobs = {
        Suite(name=name, folder=Path(name), database="sqlite", part=part): Job(
            name=name, command=command
        )
        for name, part in parts
    }
    ran = {
        outcome.job.name: [float(word) for word in outcome.output.split()]
        for outcome in run_in_turn(jobs, at_once=4)
    }
    for name in "ab":
        others = [times for other, times in ran.items() if other != name]
        assert all(end < ran[name][0] or begin > ran[name][1] for begin, end in others)
    assert min(ran["a"][0], ran["b"][0]) > max(ran["c"][1], ran["d"][1])


def test_suite_on_sqlite_has_no_database_url(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere/else")
    assert "DATABASE_URL" not in environment_of(suite("audit", "sqlite"))


def test_concurrent_suites_have_own_databases():
    environment = environment_of(suite("audit", "postgresql"))
    assert environment["DATABASE_URL"] == "postgresql://postgres@%2Ftmp%2Fx/myometrics_audit"
    assert environment["REDIS_URL"] == "redis://h:1/7"


def test_example_on_sqlite_has_no_redis(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://somewhere/0")
    assert "REDIS_URL" not in environment_of(suite("example", "sqlite", redis=False))


def test_given_servers_are_used_and_none_started():
    given = {"DATABASE_URL": "postgresql://h/db", "REDIS_URL": "redis://h/3"}
    before = psutil.Process().children()
    with servers(given, [suite("audit", "postgresql")]) as urls:
        assert urls == {"postgresql": "postgresql://h/db", "redis": "redis://h/3"}
        assert psutil.Process().children() == before


def test_given_sqlite_url_is_not_postgresql():
    given = {"DATABASE_URL": "sqlite:///db.sqlite3", "REDIS_URL": "redis://h/3"}
    with servers(given, [suite("audit", "postgresql")]) as urls:
        assert urls["postgresql"].startswith("postgresql://")


@pytest.mark.parametrize(
    ("words", "own", "for_pytest"),
    [
        ("core audit", "core audit", ""),
        ("core -- -k page", "core", "-k page"),
        ("-- -- x", "", "-- x"),
        ("", "", ""),
    ],
)
def test_arguments_after_two_dashes_go_to_pytest(words, own, for_pytest):
    assert split_at_dashes(words.split()) == (own.split(), for_pytest.split())


def test_shell_settings_do_not_reach_suite(monkeypatch):
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "other.settings")
    environment = environment_of(suite("audit", "sqlite"))
    assert "DJANGO_SETTINGS_MODULE" not in environment
    assert environment["PATH"] == os.environ["PATH"]


@pytest.fixture
def bare_machine(monkeypatch, tmp_path):
    """A folder that is the whole PATH, without programs or Pythons."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.delenv("CI", raising=False)
    return tmp_path


def put_program(folder, name, script="exit 0"):
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_suites_with_missing_programs_are_skipped_and_named(bare_machine):
    chosen, notes = chosen_suites()
    browsers = browser_suites()
    left_out = [*browsers, partitioned_suite(), asgi_suite(), container_suite()]
    assert chosen == [
        suite for suite in all_suites() if suite not in left_out and suite.part is not Part.LONG
    ]
    for suite_with_browser in browsers:
        missing = " and ".join(missing_programs(suite_with_browser))
        assert (
            f"Left out: {suite_with_browser.name}, because {missing} can't be found or run."
            in notes
        )


def test_tests_with_missing_server_program_are_named(bare_machine, monkeypatch):
    monkeypatch.setattr("myometrics_testing.commands.suites.find_server_program", lambda _: None)
    (note,) = (note for note in chosen_suites(["core"])[1] if "pgbouncer" in note)
    assert note == "Left out: the tests of core that need pgbouncer, which can't be found or run."
    monkeypatch.setenv("CI", "true")
    assert chosen_suites(["core"], everything=True)[1] == []


def test_tests_with_missing_library_are_named(monkeypatch):
    names = ["test_scim.py", "test_scim_conformance.py"]
    assert not [note for note in chosen_suites(["auth"])[1] if "test_scim" in note]
    monkeypatch.setattr("myometrics_testing.commands.suites.find_spec", lambda _: None)
    notes = [note for note in chosen_suites(["auth"])[1] if "test_scim" in note]
    assert notes == [
        f"Left out: tests of auth in {name}: SCIM needs Python 3.11." for name in names
    ]


def test_broken_program_is_missing(bare_machine):
    (browsers,) = (suite for suite in browser_suites() if suite.name == "example-browser")
    put_program(bare_machine, "chromium")
    put_program(bare_machine, "chromedriver", "echo 'no version is set' >&2; exit 127")
    assert missing_programs(browsers) == ["chromedriver", "npm"]
    (note,) = (note for note in chosen_suites()[1] if "example-browser" in note)
    assert "because chromedriver and npm can't be found or run" in note


def test_long_tests_run_with_all_only():
    few, notes = chosen_suites(["testing"])
    everything, no_notes = chosen_suites(["testing"], everything=True)
    assert {suite.part for suite in everything} - {suite.part for suite in few} == {Part.LONG}
    assert any("dev test --all" in note for note in notes)
    assert not any("dev test --all" in note for note in no_notes)


def test_partitioned_suite_runs_if_named_or_with_all():
    assert chosen_suites([PARTITIONED])[0] == [partitioned_suite()]
    assert partitioned_suite() not in chosen_suites()[0]
    assert partitioned_suite() in chosen_suites(everything=True)[0]
    assert "--partitioned" in pytest_job(partitioned_suite(), URLS, "/7", Path("r.xml"), []).command


def test_asgi_suite_runs_if_named_or_with_all():
    assert chosen_suites([ASGI])[0] == [asgi_suite()]
    assert chosen_suites(["containers"])[0] == [container_suite()]
    assert asgi_suite() not in chosen_suites()[0]
    assert ASGI in {suite.name for suite in chosen_suites(everything=True)[0]}
    command = pytest_job(asgi_suite(), URLS, "/7", Path("report.xml"), []).command
    assert "--asgi" in command
    assert any(word.endswith("test_contract_everywhere.py") for word in command)
    assert not any(word.endswith("test_site.py") for word in command)


def test_missing_python_is_named(bare_machine):
    notes = chosen_suites()[1]
    assert len([note for note in notes if "pyenv install 3.13" in note]) == 1
    notes = chosen_suites(["audit"], everything=True)[1]
    assert not any("pyenv" in note for note in notes)


def test_skipped_suites_are_listed_before_the_sum(capsys):
    assert run_suites([], [], at_once=1, notes=["Left out: one.", "Left out: two."]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["Left out: one.", "Left out: two.", "0 passed, 0 failed, 0 skipped"]


def test_named_browser_suite_runs_or_fails(bare_machine):
    for suite_with_browser in browser_suites():
        assert chosen_suites([suite_with_browser.name])[0] == [suite_with_browser]


def test_suites_are_selected_by_name_and_database():
    chosen, _ = chosen_suites(["audit", "core"], "sqlite")
    assert {(suite.name, suite.database) for suite in chosen} == {
        ("audit", "sqlite"),
        ("core", "sqlite"),
    }


def test_unknown_suite_is_an_error(capsys):
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "no suite nothing" in capsys.readouterr().err
