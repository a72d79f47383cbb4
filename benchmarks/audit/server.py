"""Servers for the benchmarks: PostgreSQL as in production (with fsync), and Redis.

    python -m benchmarks.audit.server

prints the two exports to paste, and serves until it is interrupted. Both come from wheels.
"""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path
from types import MappingProxyType

from myometrics_testing.services.servers import PostgresServer, RedisServer


class DurablePostgres(PostgresServer):
    """With fsync, and memory for ten million rows."""

    OPTIONS = MappingProxyType(
        {
            "listen_addresses": "",
            "max_connections": "100",
            "shared_buffers": "3GB",
            "effective_cache_size": "12GB",
            "work_mem": "32MB",
            "max_wal_size": "8GB",
            "checkpoint_timeout": "30min",
            "random_page_cost": "1.1",
        }
    )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="mmb-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        servers = []
        for name, kind in (("DATABASE_URL", DurablePostgres), ("REDIS_URL", RedisServer)):
            place = Path(folder) / name.lower()
            place.mkdir()
            server = kind(place)
            server.start()
            servers.append(server)
            print(f"export {name}={server.url}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
        for server in servers:
            server.stop()


if __name__ == "__main__":
    main()
