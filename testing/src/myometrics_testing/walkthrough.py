"""Follow the instructions of a document word for word, as a stranger would.

A fenced block that begins with ``# settings.py`` goes to the end of that file of the site, and so
does a template that begins with ``{# … #}``; one of ``console`` holds commands after ``$`` and
what they print, where ``…`` stands for anything; any other block of ``python`` goes into
``manage.py shell``. Of all this only port 8000 is replaced, because something else may listen
there.
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

__all__ = ["Block", "Walkthrough", "blocks_in", "section"]

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
"""One command of a terminal session: it knows the variables that those before it have set."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, and its text as it stands in the document."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file of the site that the block belongs to, by its first line: ``"urls.py"``."""
        named = FILE.match(self.text)
        return named[1] if named and self.language in FILES else None

    def commands(self) -> Iterator[tuple[str, str]]:
        """Each command of a console block with what it is said to print; ``""``: not said."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, output = re.sub(r"\\\n", "\\\\\n", part).partition("\n")
            while command.endswith("\\"):
                more, _, output = output.partition("\n")
                command += "\n" + more
            yield command, output.strip()


def section(document: str, heading: str) -> str:
    """The text under ``## heading``, down to the next heading of that level."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", document, re.DOTALL | re.M)
    if found is None:
        raise ValueError(f"There is no section {heading!r}.")
    return found[1]


def blocks_in(text: str) -> list[Block]:
    """The fenced blocks of a Markdown text, in order."""
    return [Block(language, body) for language, body in FENCE.findall(text)]


class Walkthrough:
    """A site in ``folder`` that instructions are followed in, with the commands in ``programs``.

    ``variables`` are added to an otherwise bare environment. Use it as a context manager: servers
    that were started end with it.
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
        """Do what each block says. Raises ``AssertionError`` where the outcome is another."""
        for block in blocks:
            if block.file:
                self._append(block.file, block.text)
            elif block.language == "console":
                for command, output in block.commands():
                    self._follow_command(command, output)
            elif block.language == "python":
                self.run("python manage.py shell", given=block.text)

    def run(self, command: str, given: str = "") -> str:
        """What ``command`` prints, run by a shell in the site's folder; ``given`` is its input."""
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
    """Whether ``printed`` is ``expected``, in which ``…`` is anything; all matches nothing said."""
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return not expected or re.fullmatch(pattern, printed, re.DOTALL) is not None


def _is_served(port: int, server: subprocess.Popen[bytes]) -> bool:
    assert server.poll() is None, "the server has ended"
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), 10)):
        return True
    return False


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server with the process that reloads it."""
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(timeout=PATIENCE)
