"""Options of each kind of database for threads and for timely failures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import django
from django.db import connection

from .environment import folder

# Parameters of libpq: keep-alive probes after seconds of silence, and milliseconds until data is
# acknowledged.
LOST_CONNECTION = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

HAS_POOL = django.VERSION >= (5, 1)

POOL_SECONDS = 0.5
"""How long a request waits for a connection of the pool."""
CONNECT_SECONDS = 2
"""Connect timeout per address; 2 is libpq's minimum."""
PREPARED_AFTER = 5
"""Executions before psycopg prepares a statement."""


def ready_to_serve(
    parsed: dict[str, Any], *, pool_size: int, pools_transactions: bool
) -> dict[str, Any]:
    """Return ``parsed``, an entry of ``DATABASES``, with its options.

    ``pool_size``: connections of each process, 0 for one per thread; ``pools_transactions``: the
    server is a pooler, such as PgBouncer, that assigns a connection per transaction. Options in the
    URL take precedence.
    """
    options = parsed.setdefault("OPTIONS", {})
    if parsed["ENGINE"].endswith("sqlite3"):
        _sqlite(parsed, options)
    elif parsed["ENGINE"].endswith("postgresql"):
        _postgresql(parsed, options, pool_size, pools_transactions)
    return parsed


def _sqlite(parsed: dict[str, Any], options: dict[str, Any]) -> None:
    folder(Path(parsed["NAME"]).parent)
    options.setdefault("timeout", 20)
    if django.VERSION >= (5, 1):
        options.setdefault("transaction_mode", "IMMEDIATE")
        options.setdefault("init_command", "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;")
    parsed["TEST"] = {"NAME": f"{parsed['NAME']}.test"}


def _postgresql(
    parsed: dict[str, Any], options: dict[str, Any], pool_size: int, pools_transactions: bool
) -> None:
    parsed["ENGINE"] = "config.optional.postgresql"
    options.setdefault("connect_timeout", CONNECT_SECONDS)
    # Detects within seconds that a server has vanished, not after minutes or hours.
    for name, value in LOST_CONNECTION.items():
        options.setdefault(name, value)
    options.setdefault("prepare_threshold", None if pools_transactions else PREPARED_AFTER)
    parsed["DISABLE_SERVER_SIDE_CURSORS"] = pools_transactions
    if pool_size and HAS_POOL:
        # All connections at once, so that no request waits for a new one.
        options["pool"] = {"min_size": pool_size, "max_size": pool_size, "timeout": POOL_SECONDS}
    else:
        parsed["CONN_MAX_AGE"] = 60
        parsed["CONN_HEALTH_CHECKS"] = True


def open_pool() -> None:
    """Open the connections of this process's pool now, if it has one."""
    if pool := getattr(connection, "pool", None):
        pool.open()
