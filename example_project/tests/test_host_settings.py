"""A host's ``REST_FRAMEWORK`` and formats do not change the API's responses."""

import difflib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from host_settings import HOSTILE_REST_FRAMEWORK, SCRIPT
from rest_framework.settings import DEFAULTS

from myometrics_testing.waiting import avoid_midnight

pytestmark = pytest.mark.any_database

TESTS = Path(__file__).parent


def answers(**environment):
    """The responses in a new process, because DRF reads some settings at import."""
    done = subprocess.run(
        [sys.executable, str(TESTS / "host_settings.py")],
        cwd=TESTS,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{TESTS.parent}:{TESTS}",
            "SECRET_KEY": "k" * 50,
            "DATABASE_URL": "sqlite://:memory:",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


def test_host_settings_do_not_change_responses():
    avoid_midnight()  # analytics shows days
    plain, hostile = answers(), answers(HOSTILE="1")
    assert len(plain) >= len(SCRIPT)
    assert list(difflib.unified_diff(plain, hostile, lineterm="", n=0)) == []


def test_every_setting_of_rest_framework_is_tried():
    assert set(DEFAULTS) - set(HOSTILE_REST_FRAMEWORK) <= {"DEFAULT_AUTHENTICATION_CLASSES"}
