"""A program counts only if it runs: a version manager's shim may be broken."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

import pytest
from environments import CURRENT, rows

from myometrics_testing import programs
from myometrics_testing.browser import required_program
from myometrics_testing.commands.matrix import NEWEST, OLDEST, find_python, missing_pythons
from myometrics_testing.commands.repository import ROOT
from myometrics_testing.programs import find_program

SHIMS = {
    "fails": 'echo "pyenv: $0: command not found" >&2; exit 127',
    "hangs": "exec /bin/sleep 600",
    "is of another version": "echo 2.7",
}


@pytest.fixture
def put(monkeypatch, tmp_path):
    """Puts a script into one of two folders, ``first`` and ``second``, which are the whole PATH."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, folders)))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "no-pyenv"))
    monkeypatch.delenv("CI", raising=False)

    def put_script(name, script, folder="first"):
        path = tmp_path / folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return put_script


@pytest.mark.parametrize("shim", SHIMS)
def test_python_that_cannot_run_is_missing(put, shim, monkeypatch):
    monkeypatch.setattr(programs, "SECONDS", 0.5)
    for version in (OLDEST, NEWEST):
        put(f"python{version}", SHIMS[shim])
    assert missing_pythons() == [OLDEST, NEWEST]
    assert rows() == [CURRENT]


@pytest.mark.parametrize("shim", SHIMS)
def test_python_behind_broken_shim_is_found(put, shim, monkeypatch):
    monkeypatch.setattr(programs, "SECONDS", 10.0)  # ample for the other, which runs
    put(f"python{OLDEST}", SHIMS[shim])
    real = put(f"python{OLDEST}", f"echo {OLDEST}", folder="second")
    assert find_python(OLDEST) == Path(real)


def test_file_that_is_no_program_is_missing(put):
    Path(put("chromedriver", "")).write_bytes(b"\x7fELF")
    assert find_program("chromedriver") is None


def test_first_name_that_runs_is_used(put):
    put("chromium", SHIMS["fails"])
    other = put("google-chrome", "echo 150")
    assert find_program("chromium", "google-chrome") == other


def test_test_with_broken_program_fails_and_names_it(put):
    put("npm", SHIMS["fails"])
    with pytest.raises(pytest.fail.Exception, match="npm is not installed, or does not run: apt"):
        required_program("npm", install="apt-get install npm")


@pytest.fixture
def dev():
    """The program ``dev`` as a module."""
    loader = importlib.machinery.SourceFileLoader("dev", str(ROOT / "dev"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("dev", loader))
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module


def test_dev_skips_broken_pip_and_uv(put, dev):
    put("uv", SHIMS["fails"])
    put("pip3", SHIMS["fails"])
    assert dev.working("uv") is None
    assert dev.working("pip3") is None
    real = put("pip3", "echo 26.0", folder="second")
    assert dev.working("pip3") == real
