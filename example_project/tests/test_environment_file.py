"""``ENVIRONMENT_FILE``: variables of the shell and of the unit take precedence."""

import os
import re
import subprocess
import sys

import pytest
from fresh_process import GOOD, PROJECT, SECRET, manage

pytestmark = pytest.mark.any_database

COMMANDS = {
    "manage.py": (["manage.py", "diffsettings"], r"DATA_DIR = PosixPath\('(.*)'\)"),
    "celery": (["-m", "celery", "-A", "config", "report"], r"DATA_DIR: PosixPath\('(.*)'\)"),
    "gunicorn": (
        ["-m", "gunicorn", "--config", "python:config.gunicorn", "--print-config"],
        r"bind +=.*'(.*):8001'",
    ),
}
"""Commands of operators, and how their output shows ``DATA_DIR`` or ``HOST``."""
SHOW_HOST = ["-c", "from config import settings; print(settings.DATABASE['HOST'])"]


@pytest.fixture
def environment_file(tmp_path):
    def write(**variables):
        path = tmp_path / "environment"
        lines = {"SECRET_KEY": SECRET, **variables}
        path.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        return str(path)

    return write


def output(command, **environment):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("command", "pattern"), COMMANDS.values(), ids=COMMANDS)
def test_file_is_read_and_shell_takes_precedence(environment_file, command, pattern):
    path = environment_file(DATA_DIR="/file", HOST="/file", DATABASE_URL="sqlite://:memory:")
    from_file = output(command, ENVIRONMENT_FILE=path)
    assert re.findall(pattern, from_file) == ["/file"]
    from_shell = output(command, ENVIRONMENT_FILE=path, DATA_DIR="/shell", HOST="/shell")
    assert re.findall(pattern, from_shell) == ["/shell"]


def test_database_url_of_shell_takes_precedence(environment_file, tmp_path):
    secret = tmp_path / "database_url"
    secret.write_text("postgresql://site@production/site")
    restored = {"DATABASE_URL": "postgresql://site@restored/site"}
    for path in (
        environment_file(DATABASE_URL=secret.read_text()),
        environment_file(DATABASE_URL_FILE=secret),
    ):
        assert output(SHOW_HOST, ENVIRONMENT_FILE=path) == "production\n"
        assert output(SHOW_HOST, ENVIRONMENT_FILE=path, **restored) == "restored\n"


def test_empty_variable_of_shell_takes_precedence(environment_file):
    path = environment_file(REDIS_URL="redis://production:6379/0")
    show = ["-c", "from config import settings; print(settings.REDIS_URL)"]
    assert output(show, ENVIRONMENT_FILE=path) == "redis://production:6379/0\n"
    assert output(show, ENVIRONMENT_FILE=path, REDIS_URL="") == "None\n"


SHOW_SETTINGS = "from django.conf import settings; print(settings.SETTINGS_MODULE)"


@pytest.mark.parametrize(
    "command",
    [
        ["manage.py", "shell", "-c", SHOW_SETTINGS],
        ["-c", f"import config.wsgi; {SHOW_SETTINGS}"],
        ["-c", f"import config.celery; {SHOW_SETTINGS}"],
    ],
    ids=["manage.py", "wsgi", "celery"],
)
def test_file_may_set_settings_module(environment_file, command):
    path = environment_file(
        DJANGO_SETTINGS_MODULE="long_timeout_settings", DATABASE_URL="sqlite://:memory:"
    )
    tests = str(PROJECT / "tests")
    printed = output(command, ENVIRONMENT_FILE=path, PYTHONPATH=tests)
    assert printed.split()[-1] == "long_timeout_settings"


def test_values_are_taken_literally(environment_file):
    path = environment_file(EMAIL_HOST_USER="a$HOME${HOME}#b", EMAIL_HOST_PASSWORD="'two words'")
    show = [
        "-c",
        "import config; from os import environ as given;"
        "print(given['EMAIL_HOST_USER'], given['EMAIL_HOST_PASSWORD'])",
    ]
    assert output(show, ENVIRONMENT_FILE=path) == "a$HOME${HOME}#b two words\n"


def test_unreadable_file_is_named(tmp_path):
    missing = tmp_path / "missing"
    done = manage({**GOOD, "ENVIRONMENT_FILE": str(missing)}, "check")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"ENVIRONMENT_FILE names {missing}, which can't be read (FileNotFoundError)."
    )
