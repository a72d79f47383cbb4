"""Servers for the benchmarks: PostgreSQL as in production (with fsync), and Redis.

    python -m benchmarks.audit.server [--folder DIR] [--bulk-load] [--set NAME=VALUE]

prints the two exports to paste, and serves until it is interrupted. Both come from wheels. With
``--folder`` the data stay there.
"""

from __future__ import annotations

import argparse
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


class BulkLoadPostgres(PostgresServer):
    """For inserting tens of millions of rows: no fsync, little WAL, one process at work."""

    OPTIONS = MappingProxyType(
        {
            "listen_addresses": "",
            "fsync": "off",
            "full_page_writes": "off",
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "max_wal_size": "2GB",
            "checkpoint_timeout": "30min",
            "shared_buffers": "2GB",
            "maintenance_work_mem": "1GB",
            "max_parallel_maintenance_workers": "0",
            "max_parallel_workers_per_gather": "0",
            "autovacuum": "off",
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="keep the data here")
    parser.add_argument(
        "--bulk-load", action="store_true", help="settings for loading data; start again without"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="another setting"
    )
    options = parser.parse_args()
    chosen = BulkLoadPostgres if options.bulk_load else DurablePostgres
    changed = dict(one.split("=", 1) for one in options.set)
    postgres = type("ChosenPostgres", (chosen,), {"OPTIONS": {**chosen.OPTIONS, **changed}})
    if options.folder:
        serve(options.folder, postgres)
        return
    with tempfile.TemporaryDirectory(prefix="mmb-", ignore_cleanup_errors=True) as folder:
        serve(Path(folder), postgres)


def serve(folder: Path, postgres: type[PostgresServer]) -> None:
    """Start both servers below ``folder``, and wait for SIGINT or SIGTERM."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    servers = []
    for name, kind in (("DATABASE_URL", postgres), ("REDIS_URL", RedisServer)):
        place = folder / name.lower()
        place.mkdir(exist_ok=True)
        server = kind(place)
        server.start()
        servers.append(server)
        print(f"export {name}={server.url}", flush=True)
    # Blocked only now: the servers would inherit it.
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    signal.sigwait(signals)
    for server in servers:
        server.stop()


if __name__ == "__main__":
    main()
