"""Debian's PgBouncer in front of one of our PostgreSQL servers."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from myometrics_testing.programs import find_server_program
from myometrics_testing.services.servers import Server, give_to_unprivileged_user

__all__ = ["PgBouncer"]

PORT = 6432
CONFIGURATION = """
[databases]
* = host={host} port=5432 user=postgres
[pgbouncer]
listen_addr =
listen_port = {port}
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
default_pool_size = {size}
query_wait_timeout = 180
max_client_conn = 500
"""


class PgBouncer(Server):
    """Pools the transactions of the server at ``primary_url``, ``size`` connections to a database.

    As its documentation installs it, so it forgets whatever outlives a transaction.
    """

    def __init__(self, folder: Path, primary_url: str, size: str = "3") -> None:
        super().__init__(folder)
        primary = urlsplit(primary_url)
        user, _, _ = primary.netloc.rpartition("@")
        self._socket = folder / f".s.PGSQL.{PORT}"
        self._configuration = folder / "pgbouncer.ini"
        self._text = CONFIGURATION.format(
            host=unquote(primary.netloc.rpartition("@")[2]), port=PORT, folder=folder, size=size
        )
        self.url = f"postgresql://{user}@{quote(str(folder), safe='')}:{PORT}{primary.path}"

    def command(self) -> list[str]:
        program = find_server_program("pgbouncer")
        if program is None:
            raise RuntimeError("pgbouncer can't be found or run (Debian: apt-get install pgbouncer)")
        return [program, str(self._configuration)]

    def start(self) -> None:
        self._configuration.write_text(self._text)
        give_to_unprivileged_user(self.folder)
        super().start()

    def stop(self) -> None:
        # At once: on SIGINT it would wait for its clients.
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None
            self._socket.unlink(missing_ok=True)

    def is_ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._socket)) == 0
