"""The owner of one server: ``python -m myometrics_testing.services.owner KIND [PRIMARY]``.

KIND is ``postgresql``, ``redis``, ``postgresql-replica``, which follows the URL PRIMARY,
``pgbouncer``, which pools the connections of PRIMARY (a settings file and a pool mode may follow),
or ``postgresql-on-a-small-disk``, which must be started in its own mount namespace.

Prints ``ok URL`` (and the TLS URL, if it listens with and without) when the server is up, then
``ok`` or ``error REASON`` for each of the lines ``stop``, ``start``, ``kill``, ``freeze``,
``thaw``, ``fill``, ``free``, ``fail_over``. When standard input is closed it stops the server,
removes its folder, and exits.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from myometrics_testing.services.brokers import (
    RabbitServer,
    RedisSentinel,
    RedisSentinelTls,
    RedisSocketServer,
    RedisTlsServer,
)
from myometrics_testing.services.poolers import PgBouncer
from myometrics_testing.services.replicas import PostgresReplica
from myometrics_testing.services.servers import SERVERS, Server
from myometrics_testing.services.small_disk import SmallDiskPostgres

KINDS: Mapping[str, Callable[..., Server]] = {
    **SERVERS,
    "pgbouncer": PgBouncer,
    "redis-socket": RedisSocketServer,
    "redis-tls": RedisTlsServer,
    "redis-sentinel": RedisSentinel,
    "redis-sentinel-tls": RedisSentinelTls,
    "rabbitmq": RabbitServer,
    "postgresql-replica": PostgresReplica,
    "postgresql-on-a-small-disk": SmallDiskPostgres,
}


def main(kind: str, *primary: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="mm-", ignore_cleanup_errors=True) as folder:
        server = KINDS[kind](Path(folder), *primary)
        try:
            if _answered(server, "start", server.url, server.tls_url):
                _obey(server)
        finally:
            server.close()


def _obey(server: Server) -> None:
    for line in sys.stdin:
        _answered(server, line.strip())


def _answered(server: Server, command: str, *words: str) -> bool:
    try:
        getattr(server, command)()
    except Exception as error:
        print("error", repr(error), flush=True)
        return False
    print("ok", *words, flush=True)
    return True


if __name__ == "__main__":
    main(*sys.argv[1:])
