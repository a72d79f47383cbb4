"""PostgreSQL on a disk that tests can fill."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Mapping
from pathlib import Path
from pwd import getpwnam
from types import MappingProxyType

from myometrics_testing.services.servers import PostgresServer, server_user

MEGABYTES = 224


class SmallDiskPostgres(PostgresServer):
    """PostgreSQL whose data, including the write-ahead log, is on its own small disk.

    The disk is a tmpfs in the mount namespace of this process, which must have its own.
    """

    OPTIONS: Mapping[str, str] = MappingProxyType(
        {**PostgresServer.OPTIONS, "min_wal_size": "32MB", "max_wal_size": "64MB"}
    )

    def fill(self) -> None:
        """Fill the disk to the last byte."""
        with self._ballast.open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def free(self) -> None:
        """Undo :meth:`fill`."""
        self._ballast.unlink()

    def close(self) -> None:
        """Stop, and unmount the disk with its content."""
        super().close()
        subprocess.run(["umount", self._data], check=True)

    @property
    def _ballast(self) -> Path:
        return self._data / "ballast"

    def _make_cluster(self) -> None:
        self._data.mkdir()
        options = f"size={MEGABYTES}m,mode=0700"
        if user := server_user():
            options += f",uid={getpwnam(user).pw_uid}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "disk", self._data], check=True)
        super()._make_cluster()
