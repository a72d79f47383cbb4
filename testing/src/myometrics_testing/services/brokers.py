"""Brokers and caches: Redis in every form, and RabbitMQ.

Redis with TLS and Sentinel, and RabbitMQ, are Debian's: there are no wheels.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import trustme
from redis import Redis, RedisError
from redis.sentinel import MasterNotFoundError, Sentinel

from myometrics_testing.services.servers import (
    RedisServer,
    Server,
    free_port,
    give_to_unprivileged_user,
)

PASSWORD = "hunter2/of@redis"
"""Password of every server here; its reserved characters must be percent-encoded in URLs."""
QUOTED = quote(PASSWORD, safe="")
RABBIT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
SERVICE = "primary"


class RedisSocketServer(RedisServer):
    """Valkey on a Unix socket only, with a password."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._socket = folder / "redis.sock"
        self.url = f"unix://:{QUOTED}@{self._socket}?db=0"

    def command(self) -> list[str]:
        program, *options = super().command()
        options[options.index("--port") + 1] = "0"
        return [program, *options, "--unixsocket", str(self._socket), "--requirepass", PASSWORD]

    def is_ready(self) -> bool:
        return _answers(Redis(unix_socket_path=str(self._socket), password=PASSWORD))


class RedisTlsServer(Server):
    """Debian's Redis with TLS only; the certificate is signed by its own authority."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._port = free_port()
        self._authority = make_certificate(folder)
        query = f"ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={quote(str(self._authority))}"
        self.url = f"rediss://:{QUOTED}@localhost:{self._port}/0?{query}"
        for path in (folder, *folder.iterdir()):
            give_to_unprivileged_user(path)

    def command(self) -> list[str]:
        options = {
            **_redis_options(0),
            "tls-port": str(self._port),
            "tls-cert-file": str(self.folder / "server.pem"),
            "tls-key-file": str(self.folder / "server.key"),
            "tls-ca-cert-file": str(self._authority),
            "tls-auth-clients": "no",
        }
        return ["redis-server", *_words(options)]

    def is_ready(self) -> bool:
        return _answers(Redis.from_url(self.url.replace("CERT_REQUIRED", "required")))


class RedisSentinel(Server):
    """Debian's Redis with a replica, and a Sentinel that monitors both; all require a password."""

    client_options: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._ports = free_port(), free_port()
        self._sentinel_port = free_port()
        self._configuration = folder / "sentinel.conf"
        self.url = (
            f"sentinel://:{QUOTED}@127.0.0.1:{self._sentinel_port},127.0.0.1:1/{SERVICE}/0"
            f"?sentinel_password={QUOTED}"
        )
        self._redis: list[subprocess.Popen[bytes]] = []
        give_to_unprivileged_user(folder)

    def options(self, port: int) -> dict[str, str]:
        """Return the listening options of a Redis or the Sentinel."""
        return {"port": str(port), "bind": "127.0.0.1"}

    def start(self) -> None:
        for port in self._ports:
            options = {**_redis_options(port), **self.options(port), "masterauth": PASSWORD}
            if port != self._ports[0]:
                options["replicaof"] = f"127.0.0.1 {self._ports[0]}"
            self._redis.append(self._run(["redis-server", *_words(options)]))
        listening = self.options(self._sentinel_port).items()
        self._configuration.write_text(
            "".join(f"{name} {value}\n" for name, value in listening) + f"requirepass {PASSWORD}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._ports[0]} 1\n"
            f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
            f"sentinel sentinel-pass {PASSWORD}\n"
            # A busy machine must not look like a failure, and health, whose results are reused for
            # five seconds, must notice one.
            f"sentinel down-after-milliseconds {SERVICE} 10000\n"
        )
        give_to_unprivileged_user(self._configuration)
        super().start()

    def command(self) -> list[str]:
        return ["redis-server", str(self._configuration), "--sentinel"]

    def is_ready(self) -> bool:
        """Return whether the Sentinel has found the primary and its replica."""
        sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
            [("127.0.0.1", self._sentinel_port)],
            sentinel_kwargs={"password": PASSWORD, **self.client_options},
        )
        with suppress(RedisError, MasterNotFoundError):
            return bool(sentinel.discover_master(SERVICE) and sentinel.discover_slaves(SERVICE))
        return False

    def fail_over(self) -> None:
        """Kill the primary: the Sentinel promotes the replica."""
        self._redis[0].kill()
        self._redis[0].wait()

    def stop(self) -> None:
        super().stop()
        for process in self._redis:
            process.kill()
            process.wait()
        self._redis = []


class RedisSentinelTls(RedisSentinel):
    """The same with TLS only, between the servers as well."""

    client_options = MappingProxyType({"ssl": True, "ssl_cert_reqs": "none"})

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._authority = make_certificate(folder)
        self.url += f"&ssl_ca_certs={quote(str(self._authority))}"
        for path in folder.iterdir():
            give_to_unprivileged_user(path)

    def options(self, port: int) -> dict[str, str]:
        return {
            "port": "0",
            "tls-port": str(port),
            "bind": "127.0.0.1",
            "tls-cert-file": str(self.folder / "server.pem"),
            "tls-key-file": str(self.folder / "server.key"),
            "tls-ca-cert-file": str(self._authority),
            "tls-auth-clients": "no",
            "tls-replication": "yes",
        }


class RabbitServer(Server):
    """Debian's RabbitMQ with its own name, folder and ports, to run beside others."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        super().__init__(folder)
        self._address = address
        self._port, self._tls_port = free_port(), free_port()
        self._distribution, self._names = free_port(), free_port()
        self._name = f"test-{secrets.token_hex(4)}@localhost"
        self._name_server: subprocess.Popen[bytes] | None = None
        self._authority = make_certificate(folder)
        self.url = f"amqp://site:{QUOTED}@{address}:{self._port}/%2F"
        query = f"ssl_ca_certs={quote(str(self._authority))}"
        self.tls_url = f"amqps://site:{QUOTED}@localhost:{self._tls_port}/%2F?{query}"
        for path in (folder, *folder.iterdir()):
            give_to_unprivileged_user(path)

    def start(self) -> None:
        configuration = {
            "listeners.tcp.1": f"{self._address}:{self._port}",
            "listeners.ssl.1": f"127.0.0.1:{self._tls_port}",
            "ssl_options.cacertfile": str(self._authority),
            "ssl_options.certfile": str(self.folder / "server.pem"),
            "ssl_options.keyfile": str(self.folder / "server.key"),
            "default_user": "site",
            "default_pass": PASSWORD,
            "log.console": "true",
            "log.file": "false",
            "loopback_users": "none",
        }
        lines = "".join(f"{name} = {value}\n" for name, value in configuration.items())
        (self.folder / "rabbitmq.conf").write_text(lines)
        (self.folder / "plugins").write_text("[].")
        if self._name_server is None:
            # Otherwise Erlang starts one that is never stopped.
            self._name_server = self._run(["epmd", "-port", str(self._names)])
        super().start()

    def command(self) -> list[str]:
        return [str(RABBIT)]

    def environment(self) -> Mapping[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            # One scheduler without busy waiting: a test sends only a few messages.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def is_ready(self) -> bool:
        """Return whether the broker sends its protocol header to a client."""
        with suppress(OSError), socket.create_connection((self._address, self._port), 10) as link:
            link.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(link.recv(1))
        return False

    def stop(self) -> None:
        """Kill it, its shell and Erlang's processes, without waiting."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        super().close()
        if self._name_server is not None:
            self._name_server.kill()
            self._name_server.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)


def make_certificate(folder: Path) -> Path:
    """Make ``server.pem`` and ``server.key`` for localhost; returns the authority's certificate."""
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    server.private_key_pem.write_to_path(folder / "server.key")
    for certificate in server.cert_chain_pems:
        certificate.write_to_path(folder / "server.pem", append=True)
    return folder / "authority.pem"


def _redis_options(port: int) -> dict[str, str]:
    return {
        "port": str(port),
        "bind": "127.0.0.1",
        "save": "",
        "appendonly": "no",
        "requirepass": PASSWORD,
    }


def _words(options: Mapping[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", *_value(name, value))]


def _value(name: str, value: str) -> list[str]:
    return value.split() if name == "replicaof" else [value]


def _answers(client: Redis) -> bool:
    with client, suppress(RedisError):
        return bool(client.ping())
    return False
