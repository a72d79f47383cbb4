"""Find programs that this machine can run: a file on the PATH may be a shim with nothing behind it.

Version managers such as pyenv put a file for each program on the PATH, whether the version that
is chosen has it or not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache

__all__ = ["find_program", "find_server_program", "runs"]

SECONDS = 60.0
"""A program that does not even tell its version within this time hangs."""

STARTED_BY_ANY_CALL = {"rabbitmq-server"}
"""Programs that can't be asked for their version without leaving a process behind."""


def find_program(
    *names: str, path: str | None = None, check: Sequence[str] = ("--version",), says: str = ""
) -> str | None:
    """The path of the first program of ``names`` that runs; None where there is none.

    All folders of ``path`` are searched, by default those of the PATH. A program runs if it ends
    without an error when it is called with ``check``, and if ``says`` is in what it prints.
    """
    return next(
        (
            found
            for name in names
            for found in _on_path(name, path)
            if runs(found, *check, says=says)
        ),
        None,
    )


def find_server_program(name: str) -> str | None:
    """As :func:`find_program`, also in the folders that hold servers and only root's PATH names."""
    folders = [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"]
    path = os.pathsep.join(folders)
    if name in STARTED_BY_ANY_CALL:
        return shutil.which(name, path=path)
    # nginx has no --version.
    return find_program(name, path=path) or find_program(name, path=path, check=("-v",))


@cache
def runs(*command: str, says: str = "") -> bool:
    """Whether ``command`` ends without an error, in time, and prints ``says``."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and says in done.stdout


def _on_path(name: str, path: str | None) -> Iterator[str]:
    if path is None:
        path = os.environ.get("PATH", os.defpath)
    for folder in path.split(os.pathsep):
        if folder and (found := shutil.which(name, path=folder)):
            yield found
