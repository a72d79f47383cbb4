"""A streaming replica of one of our PostgreSQL servers."""

from __future__ import annotations

import subprocess
from pathlib import Path

from myometrics_testing.services.servers import (
    PostgresServer,
    give_to_unprivileged_user,
    server_user,
)


class PostgresReplica(PostgresServer):
    """Follows the server at ``primary_url``; read-only."""

    def __init__(self, folder: Path, primary_url: str, address: str = "") -> None:
        super().__init__(folder, address)
        self._primary_url = primary_url

    def _make_cluster(self) -> None:
        give_to_unprivileged_user(self.folder)
        # The copy starts at once, and includes the connection to its primary.
        options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        program = str(self._programs / "pg_basebackup")
        done = subprocess.run(
            [program, "-D", str(self._data), "-d", self._primary_url, *options],
            check=False,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=server_user(),
        )
        if done.returncode:
            raise RuntimeError(f"pg_basebackup failed in {self.folder}: {done.stdout}")
