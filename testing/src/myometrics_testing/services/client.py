"""The test's side of a server: starts it in an owner process, and sends commands to the owner."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Sequence

OWNER = "myometrics_testing.services.owner"


class ServerError(RuntimeError):
    """A server could not be started, stopped or frozen; the message is the owner's reason."""


class OwnedServer:
    """A server in a child process, which always ends with this process.

    The owner stops the server and removes its folder when its standard input is closed, however
    this process ends: return, exception, SIGTERM or SIGKILL.

    ``kind`` is ``"postgresql"``, ``"postgresql-on-a-small-disk"``, ``"redis"``, ``"redis-socket"``,
    ``"redis-tls"``, ``"redis-sentinel"``, ``"redis-sentinel-tls"``, ``"rabbitmq"``,
    ``"postgresql-replica"``, which follows the server whose URL is ``primary``, or ``"pgbouncer"``,
    which pools its transactions. PostgreSQL, its replica, Redis and RabbitMQ take an address to
    listen on as the last argument. ``within`` is put before the owner's command. The server runs
    when the constructor returns.
    """

    def __init__(self, kind: str, *primary: str, within: Sequence[str] = ()) -> None:
        self.kind = kind
        self._owner = subprocess.Popen(
            [*within, *_namespace(kind), sys.executable, "-m", OWNER, kind, *primary],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C goes to us, and to the owner through its stdin
        )
        self.url, _, self.tls_url = self._answer().partition(" ")
        atexit.register(self.close)

    def __enter__(self) -> OwnedServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def stop(self) -> None:
        """Shut the server down: connections are refused until :meth:`start`."""
        self._ask("stop")

    def start(self) -> None:
        """Start a stopped server again under the same :attr:`url`; Redis data is lost."""
        self._ask("start")

    def kill(self) -> None:
        """Kill the server's main process; it sends nothing more."""
        self._ask("kill")

    def freeze(self) -> None:
        """Freeze the server: it accepts connections but never responds, until :meth:`thaw`."""
        self._ask("freeze")

    def thaw(self) -> None:
        """Resume a frozen server."""
        self._ask("thaw")

    def fill(self) -> None:
        """Fill the server's disk completely; for servers on a small disk."""
        self._ask("fill")

    def free(self) -> None:
        """Release the space that :meth:`fill` took."""
        self._ask("free")

    def fail_over(self) -> None:
        """Kill the primary that the Sentinel monitors, so that it promotes the replica."""
        self._ask("fail_over")

    def close(self) -> None:
        """Stop the server for good and remove its folder; idempotent."""
        atexit.unregister(self.close)
        if self._owner.poll() is None:
            self._owner.communicate()

    def _ask(self, command: str) -> None:
        assert self._owner.stdin is not None
        self._owner.stdin.write(f"{command}\n")
        self._owner.stdin.flush()
        self._answer()

    def _answer(self) -> str:
        assert self._owner.stdout is not None
        word, _, rest = self._owner.stdout.readline().strip().partition(" ")
        if word != "ok":
            raise ServerError(f"{self.kind}: {rest or 'its owner process ended; see above'}")
        return rest


def _namespace(kind: str) -> list[str]:
    """Return the command prefix that starts the owner; a small disk needs a mount namespace."""
    if kind != "postgresql-on-a-small-disk":
        return []
    # Without root, mounting needs a user namespace, if the machine allows one.
    as_user = ["--user", "--map-current-user", "--keep-caps"] if os.geteuid() else []
    return ["unshare", *as_user, "--mount", "--propagation", "private"]
