"""Debian's PgBouncer in front of one of our PostgreSQL servers."""

from __future__ import annotations

import socket
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from myometrics_testing.programs import find_server_program
from myometrics_testing.services.servers import Server, give_to_unprivileged_user

PORT = 6432


class PgBouncer(Server):
    """Pools the server at ``primary_url`` with the settings file ``configuration``, in
    ``pool_mode``.

    Addresses and users are replaced by the test's, with at most three connections per database.
    """

    def __init__(
        self,
        folder: Path,
        primary_url: str,
        configuration: str = "",
        pool_mode: str = "transaction",
    ) -> None:
        super().__init__(folder)
        primary = urlsplit(primary_url)
        user, _, host = primary.netloc.rpartition("@")
        self.url = f"postgresql://{user}@{quote(str(folder), safe='')}:{PORT}{primary.path}"
        self._socket = folder / f".s.PGSQL.{PORT}"
        self._configuration = folder / "pgbouncer.ini"
        self._settings = ConfigParser(interpolation=None)
        self._settings["pgbouncer"] = {"pool_mode": pool_mode}
        self._settings.read(filter(None, [configuration]))
        self._settings["databases"] = {"*": f"host={unquote(host)} port=5432 user={user}"}
        self._settings["pgbouncer"].update(
            listen_addr="",
            listen_port=str(PORT),
            unix_socket_dir=str(folder),
            auth_type="any",
            default_pool_size="3",
        )

    def command(self) -> list[str]:
        program = find_server_program("pgbouncer")
        if program is None:
            raise RuntimeError(
                "pgbouncer can't be found or run (Debian: apt-get install pgbouncer)"
            )
        return [program, str(self._configuration)]

    def start(self) -> None:
        with self._configuration.open("w") as file:
            self._settings.write(file)
        give_to_unprivileged_user(self.folder)
        super().start()

    def stop(self) -> None:
        # Versions differ in the signal for a shutdown that does not wait for clients.
        self.kill()
        self._socket.unlink(missing_ok=True)

    def is_ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._socket)) == 0
