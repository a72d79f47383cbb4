"""What each kind of database needs to serve several threads, and to fail in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import django

from .environment import folder

# Parameters of libpq: probes after seconds of silence, and milliseconds until data is received.
LOST_CONNECTION = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

__all__ = ["ready_to_serve"]

HAS_POOL = django.VERSION >= (5, 1)

# Seconds: how long a request waits for a connection, and how soon the pool gives up making one
# while the server is away, to try afresh for the next request.
POOL = {"timeout": 5, "reconnect_timeout": 5}


def ready_to_serve(parsed: dict[str, Any], *, pool_size: int, prepares: bool) -> dict[str, Any]:
    """``parsed``, an entry of ``DATABASES``, with its options.

    ``pool_size``: connections of each process, 0 for one that each thread keeps; ``prepares``:
    whether PostgreSQL is to plan repeated statements once.
    """
    options = parsed.setdefault("OPTIONS", {})
    if parsed["ENGINE"].endswith("sqlite3"):
        _sqlite(parsed, options)
    elif parsed["ENGINE"].endswith("postgresql"):
        _postgresql(parsed, options, pool_size, prepares)
    return parsed


def _sqlite(parsed: dict[str, Any], options: dict[str, Any]) -> None:
    folder(Path(parsed["NAME"]).parent)
    options.setdefault("timeout", 20)
    if django.VERSION >= (5, 1):
        options.setdefault("transaction_mode", "IMMEDIATE")
        options.setdefault("init_command", "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;")
    parsed["TEST"] = {"NAME": f"{parsed['NAME']}.test"}


def _postgresql(
    parsed: dict[str, Any], options: dict[str, Any], pool_size: int, prepares: bool
) -> None:
    parsed["ENGINE"] = "config.postgresql"
    options.setdefault("connect_timeout", 2)
    # A server whose machine is gone without a word is noticed in seconds, not in minutes or hours.
    for name, value in LOST_CONNECTION.items():
        options.setdefault(name, value)
    if prepares:
        options.setdefault("prepare_threshold", 5)
    parsed["CONN_HEALTH_CHECKS"] = True
    if pool_size and HAS_POOL:
        options["pool"] = {"min_size": 1, "max_size": pool_size, **POOL}
    else:
        parsed["CONN_MAX_AGE"] = 60
