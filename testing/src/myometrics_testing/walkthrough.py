"""Follow the instructions of a document word for word.

A fenced block that begins with ``# settings.py`` is appended to that file of the site, and so is a
template that begins with ``{# … #}``; a ``console`` block contains commands after ``$`` and their
output, where ``…`` matches anything; any other ``python`` block goes into ``manage.py shell``. Only
port 8000 is replaced, because it may be in use.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

from myometrics_testing.services import free_port
from myometrics_testing.waiting import PATIENCE, wait_for

SITE = "clinic"
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"(?:#|{#) ([\w/]+\.\w+)\b[^\n]*\n")
FILES = ("python", "html", "text")
SERVER = "python manage.py runserver"
SESSION = """set -a
[ -f ~/.exported ] && . ~/.exported
{command}
code=$?
export -p > ~/.exported
exit $code"""
"""One command of a terminal session, with the variables that earlier commands have set."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The site's file that the block belongs to, by its first line: ``"urls.py"``."""
        named = FILE.match(self.text)
        return named[1] if named and self.language in FILES else None

    def commands(self) -> Iterator[tuple[str, str]]:
        """Yield each command of a console block with its expected output; ``""``: not checked."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, output = re.sub(r"\\\n", "\\\\\n", part).partition("\n")
            while command.endswith("\\"):
                more, _, output = output.partition("\n")
                command += "\n" + more
            yield command, output.strip()


def section(document: str, heading: str) -> str:
    """Return the text under ``## heading``, up to the next heading of that level."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", document, re.DOTALL | re.M)
    if found is None:
        raise ValueError(f"There is no section {heading!r}.")
    return found[1]


def blocks_in(text: str) -> list[Block]:
    """Return the fenced blocks of a Markdown text, in order."""
    return [Block(language, body) for language, body in FENCE.findall(text)]


class Walkthrough:
    """A site in ``folder`` to follow instructions in, with the commands in ``programs``.

    ``variables`` are added to an otherwise empty environment. Use it as a context manager, which
    ends the servers that were started.
    """

    def __init__(self, folder: Path, programs: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        self.variables = {"PATH": path, "HOME": str(folder), "COLUMNS": "100", **variables}
        self.port = free_port()
        self._servers = ExitStack()

    def __enter__(self) -> Walkthrough:
        self.run(f"django-admin startproject {SITE} .")
        return self

    def __exit__(self, *exception: object) -> None:
        self._servers.close()

    def follow(self, blocks: list[Block]) -> None:
        """Execute the blocks. Raises ``AssertionError`` if the output differs."""
        for block in blocks:
            if block.file:
                self._append(block.file, block.text)
            elif block.language == "console":
                for command, output in block.commands():
                    self._follow_command(command, output)
            elif block.language == "python":
                self.run("python manage.py shell", given=block.text)

    def run(self, command: str, given: str = "") -> str:
        """Run ``command`` in a shell in the site's folder; return its output. ``given``: stdin."""
        done = subprocess.run(
            ["bash", "-c", SESSION.format(command=command)],
            cwd=self.folder,
            env=self.variables,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _follow_command(self, command: str, output: str) -> None:
        if command.startswith(SERVER):
            self._serve(command)
            return
        printed = self.run(self._with_port(command)).strip()
        assert _matches(printed, self._with_port(output)), f"$ {command}\n{printed}"

    def _with_port(self, text: str) -> str:
        return text.replace("localhost:8000", f"localhost:{self.port}")

    def _append(self, name: str, text: str) -> None:
        path = self.folder / name if "/" in name else self.folder / SITE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"\n{text}")

    def _serve(self, command: str) -> None:
        server = subprocess.Popen(
            ["bash", "-c", f"exec {command} {self.port}"],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._servers.callback(_end, server)
        wait_for(lambda: _is_served(self.port, server))


def _matches(printed: str, expected: str) -> bool:
    """Return whether ``printed`` matches: ``…`` matches anything, and ``""`` every output."""
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return not expected or re.fullmatch(pattern, printed, re.DOTALL) is not None


def _is_served(port: int, server: subprocess.Popen[bytes]) -> bool:
    assert server.poll() is None, "the server has ended"
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), 10)):
        return True
    return False


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and its reloading process."""
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(timeout=PATIENCE)
