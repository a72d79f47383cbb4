"""Find programs that run on this machine: a file on the PATH may be a shim without a program.

Version managers such as pyenv put a shim for each program on the PATH, even if the selected version
does not have it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache

SECONDS = 60.0
"""Timeout of a program's version command."""

NETWORK_NAMESPACES = "network-namespaces"
"""For :func:`find_server_program`: whether this process may create machines with links."""
NAMESPACES = ("--net", "--pid", "--uts", "--mount")
"""Options of ``unshare`` and ``nsenter`` for the namespaces of a machine."""
_TRIAL = "ip rule add to 198.18.0.1 blackhole && ip link add eth0 type veth && sysctl --version"

STARTED_BY_ANY_CALL = {"rabbitmq-server"}
"""Programs whose version command leaves a process behind."""


def find_program(
    *names: str, path: str | None = None, check: Sequence[str] = ("--version",), says: str = ""
) -> str | None:
    """Return the path of the first program of ``names`` that runs, else ``None``.

    Searches all folders of ``path``, by default the PATH. A program runs if it exits without an
    error when called with ``check``, and its output contains ``says``.
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
    """Like :func:`find_program`; also searches server folders that only root's PATH has."""
    folders = [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"]
    path = os.pathsep.join(folders)
    if name in STARTED_BY_ANY_CALL:
        return shutil.which(name, path=path)
    if name == NETWORK_NAMESPACES:
        trial = (*NAMESPACES, "--mount-proc", "--fork", "sh", "-c", _TRIAL)
        return find_program("unshare", path=path, check=trial)
    # nginx has no --version, nor have go and openssl.
    checks = (("--version",), ("-v",), ("version",))
    return next(
        (found for check in checks if (found := find_program(name, path=path, check=check))), None
    )


@cache
def runs(*command: str, says: str = "") -> bool:
    """Return whether ``command`` exits without an error in time, and prints ``says``."""
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
