"""Environments of third-party sites: a Python, a Django, the wheels of core and of one package.

They have nothing else of this repository, and only the dependencies of those two wheels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec

import pytest

from myometrics_testing.commands import matrix
from myometrics_testing.commands.repository import PREFIX, package_folders
from myometrics_testing.programs import find_program

UV = (sys.executable, "-m", "uv") if find_spec("uv") else (find_program("uv") or "uv",)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the matrix; without versions this Python, and the newest Django it can have."""

    name: str
    python: str = ""
    django: str = ""

    def __str__(self):
        return self.name

    def interpreter(self):
        """The path of its Python; fails the test with instructions if it is missing."""
        if not self.python:
            return sys.executable
        found = matrix.find_python(self.python)
        if found is None:
            pytest.fail(
                f"Python {self.python} is missing, and the packages are promised to work on it. "
                f"Put python{self.python} on the PATH, or: pyenv install {self.python}",
                pytrace=False,
            )
        return str(found)


OLDEST = Row(name="oldest", python=matrix.OLDEST, django="4.2")
CURRENT = Row(name="current")
NEWEST = Row(name="newest", python=matrix.NEWEST, django="6.1")


def rows():
    """The oldest and the newest; between them the quickstarts are followed on this one.

    Outside CI, rows whose Python is missing are omitted, which ``dev test`` reports, and
    replaced by this one if both are; in CI their tests fail.
    """
    missing = [] if os.environ.get("CI") else matrix.missing_pythons()
    return [row for row in (OLDEST, NEWEST) if row.python not in missing] or [CURRENT]


def build_wheels(folder):
    """Build the wheels of all packages into ``folder``."""
    for package in package_folders().values():
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(command, cwd=package, check=True, capture_output=True)


def make_environment(folder, row, wheels, package):
    """The Python of a new environment in ``folder`` with ``package``, core and ``row``'s Django."""
    _uv("venv", "-p", row.interpreter(), str(folder))
    python = folder / "bin" / "python"
    chosen = [str(next(wheels.glob(f"myometrics_{name}-*"))) for name in ("core", package)]
    django = [f"Django~={row.django}.0"] if row.django else []
    _uv("pip", "install", "-p", str(python), *chosen, *django)
    installed = _installed(python)
    ours = {name.removeprefix(PREFIX) for name in installed if name.startswith(PREFIX)}
    assert ours == {"core", package}
    assert installed["django"].startswith(row.django)
    return python


def install(python, *packages):
    """Install ``packages`` into the environment of ``python``, in versions that fit its Django."""
    _uv("pip", "install", "-p", str(python), *packages)


def make_library(folder):
    """Install the host's libraries into ``folder``: Celery, and JWT without its dependencies."""
    install = ("pip", "install", "-p", sys.executable, "--target", str(folder))
    _uv(*install, "celery")
    _uv(*install, "--no-deps", "djangorestframework-simplejwt", "PyJWT")


def _installed(python):
    listed = _uv("pip", "list", "-p", str(python), "--format", "json")
    return {package["name"]: package["version"] for package in json.loads(listed)}


def _uv(*arguments):
    done = subprocess.run([*UV, "-q", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
