"""Redis URLs: TCP, TLS, Unix socket or Sentinel, for everything that connects to Redis.

| URL | connection |
|---|---|
| ``redis://user:password@host:6379/0`` | TCP |
| ``rediss://user:password@host:6379/0?ssl_ca_certs=/path`` | TLS |
| ``unix://user:password@/path/to/socket?db=0`` | a Unix socket |
| ``sentinel://user:password@host:26379,host:26379/service/0`` | the primary of ``service``, as the
  Sentinels at these addresses report it |

User and password are those of Redis. For Sentinels with authentication use the query parameters
``sentinel_username`` and ``sentinel_password``. All other query parameters are those of redis-py.
``ssl_…`` parameters with ``sentinel://`` enable TLS to the Sentinels and to Redis.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from redis import ConnectionPool

REDIS_SCHEMES: Final = ("redis", "rediss", "unix", "sentinel")
SENTINEL_PORT: Final = 26379
EXPECTED: Final = (
    "must be a URL such as redis://host:6379/0, rediss://host:6379/0, unix:///path/to/socket or "
    "sentinel://host:26379,host:26379/service"
)
CERTIFICATE_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
VERIFICATIONS: Final = ("required", "optional", "none")


def is_redis_url(url: str) -> bool:
    """Return whether the scheme of ``url`` is one of :data:`REDIS_SCHEMES`."""
    return url.partition("://")[0] in REDIS_SCHEMES


def redis_pool(url: str, **options: Any) -> ConnectionPool:
    """Return a connection pool for the Redis at ``url``; connects on first use.

    ``options`` are those of redis-py's connections; the URL takes precedence. Raises
    ``ValueError``, without the URL in the message, if the URL is invalid.
    """
    from redis import ConnectionPool  # noqa: PLC0415  (an optional dependency)

    if url.partition("://")[0] == "sentinel":
        return _sentinel_pool(url, options)
    return ConnectionPool(**{**options, **_connection_options(url)})


class RedisPool:
    """``OPTIONS["pool_class"]`` of Django's ``RedisCache``, for all URLs of :mod:`redis_urls`."""

    @staticmethod
    def from_url(url: str, **options: Any) -> ConnectionPool:
        return redis_pool(url, **options)


def check_redis_url(url: str) -> None:
    """For ``validate``: raises ``ValueError`` with a readable message if ``url`` is invalid.

    Does not connect. The message contains no part of the URL except parameter names.
    """
    _check_form(url)
    scheme, given = url.partition("://")[0], parse_qs(url.partition("?")[2])
    for name in given:
        if name.startswith("ssl_") and scheme in {"redis", "unix"}:
            raise ValueError(f"has the parameter {name}, which needs rediss:// (TLS)")
    check_tls_parameters({name: values[0] for name, values in given.items()})
    try:
        redis_pool(url).make_connection()
    except ImportError:
        raise ValueError("needs the package redis (pip install redis)") from None
    except TypeError as error:
        unknown = re.search(r"argument '(\w+)'", str(error))
        which = f" {unknown[1]}" if unknown else ""
        raise ValueError(f"has a query parameter{which} that redis-py does not support") from None
    except ValueError:
        raise ValueError("has a query parameter whose value can't be used") from None
    except Exception as error:  # redis-py's exceptions differ between versions
        raise ValueError(f"can't be used ({type(error).__name__})") from None


def check_tls_parameters(given: Mapping[str, str]) -> None:
    """For ``validate``: raises ``ValueError`` with a readable message for an invalid TLS parameter.

    ``given``: the query parameters of a URL. Checks the certificate files and ``ssl_cert_reqs``.
    The message contains none of the values.
    """
    for name in CERTIFICATE_FILES:
        if name in given and not Path(given[name]).is_file():
            raise ValueError(f"names a file in {name} that can't be read")
    if tls_verification(given.get("ssl_cert_reqs", "required")) not in VERIFICATIONS:
        raise ValueError(f"has an ssl_cert_reqs that is none of {', '.join(VERIFICATIONS)}")


def tls_verification(value: str) -> str:
    """Return ``required``, ``optional`` or ``none``; accepts Celery's spelling (``CERT_NONE``)."""
    return value.lower().removeprefix("cert_")


def _check_form(url: str) -> None:
    scheme, _, rest = url.partition("://")
    if scheme not in REDIS_SCHEMES or not rest:
        raise ValueError(EXPECTED)
    if scheme == "sentinel":
        _sentinel_parts(url)
        return
    try:
        parts = urlsplit(url)
        host, path, _ = parts.hostname, parts.path, parts.port
    except ValueError:
        raise ValueError(
            f"{EXPECTED}, with reserved characters such as / ? # @ of a password percent-encoded"
        ) from None
    if scheme == "unix":
        if host or path in {"", "/"}:
            raise ValueError("must name the socket's path after three slashes: unix:///path")
    elif not host:
        raise ValueError(EXPECTED)
    elif not re.fullmatch(r"/?\d*", path):
        raise ValueError("must end with the number of a database, such as /0")


def _connection_options(url: str) -> dict[str, Any]:
    """Return redis-py's options for ``url``; accepts Celery's spelling of ``ssl_cert_reqs``."""
    from redis.connection import parse_url  # noqa: PLC0415

    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    if "ssl_cert_reqs" in options:
        verification = tls_verification(str(options["ssl_cert_reqs"]))
        options["ssl_cert_reqs"] = verification
        if verification == "none":
            options["ssl_check_hostname"] = False
    return options


def _sentinel_pool(url: str, options: dict[str, Any]) -> ConnectionPool:
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415
    from redis.sentinel import Sentinel, SentinelConnectionPool  # noqa: PLC0415

    hosts, service, plain_url = _sentinel_parts(url)
    found = {**options, **_connection_options(plain_url)}
    found.pop("host", None)
    login = {name: found.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    if any(name.startswith("ssl_") for name in found):
        found["ssl"] = True
    shared = {name: found[name] for name in found if name.startswith(("ssl", "socket_"))}
    given: dict[str, Any] = {name: value for name, value in login.items() if value is not None}
    # Try the next Sentinel immediately: redis-py would retry an unreachable one for seconds.
    given["retry"] = Retry(NoBackoff(), 0)
    sentinel = Sentinel(hosts, sentinel_kwargs={**shared, **given})  # type: ignore[no-untyped-call]
    return SentinelConnectionPool(service, sentinel, **found)  # type: ignore[no-untyped-call]


def _sentinel_parts(url: str) -> tuple[list[tuple[str, int]], str, str]:
    """Return the Sentinels' addresses, the service, and the rest as a ``redis://`` URL."""
    main, _, query = url.partition("://")[2].partition("?")
    authority, _, path = main.partition("/")
    user_info, at, addresses = authority.rpartition("@")
    service, _, database = path.partition("/")
    if not service or not re.fullmatch(r"\d*", database):
        raise ValueError(
            "must name the service, and may name a database: sentinel://host:26379/service/0"
        )
    try:
        hosts = [urlsplit(f"//{address}") for address in addresses.split(",")]
        pairs = [(str(host.hostname or ""), host.port or SENTINEL_PORT) for host in hosts]
    except ValueError:
        raise ValueError("has a Sentinel whose port is no number") from None
    if not all(host for host, _ in pairs):
        raise ValueError("must name the Sentinels: sentinel://host:26379,host:26379/service")
    return pairs, service, f"redis://{user_info}{at}sentinel/{database}?{query}"
