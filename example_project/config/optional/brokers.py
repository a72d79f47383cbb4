"""Celery's settings for a broker: Redis in any form, or RabbitMQ.

Converts one URL into Celery's settings, including TLS.
"""

from __future__ import annotations

import ssl
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from myometrics_core.conf import check_redis_url, check_tls_parameters, is_redis_url, redis_pool

AMQP_SCHEMES = ("amqp", "amqps")
CONNECT_SECONDS = 2
AMQP_PARAMETERS = {
    "ssl_ca_certs": "ca_certs",
    "ssl_certfile": "certfile",
    "ssl_keyfile": "keyfile",
}
HEARTBEAT_SECONDS = 10
"""Both sides of a connection to RabbitMQ end it after two of these without data."""
REDIS_OPTIONS = {
    "visibility_timeout": int(timedelta(hours=1).total_seconds()),
    "unacked_restore_limit": 100,
    "socket_timeout": 5,
    "socket_connect_timeout": CONNECT_SECONDS,
}


def check_broker_url(url: str) -> None:
    """Raise ``ValueError`` if ``url`` can't be used; the message contains no part of it."""
    if is_redis_url(url):
        check_redis_url(url)
    elif url.partition("://")[0] in AMQP_SCHEMES:
        _check_amqp_url(url)
    else:
        raise ValueError(
            "must be a URL such as amqp://user:password@host:5672/vhost, or of Redis: redis://, "
            "rediss://, unix:// or sentinel://"
        )


def broker_settings(url: str | None) -> dict[str, Any]:
    """Return Celery's settings for the broker at ``url``; none if jobs need no Celery."""
    if url is None:
        return {}
    return _redis_settings(url) if is_redis_url(url) else _amqp_settings(url)


def _settings(url: str, options: dict[str, Any], tls: Any = None) -> dict[str, Any]:
    return {
        # Celery uses the environment's CELERY_BROKER_URL unchanged, unless the other two are set.
        "CELERY_BROKER_URL": url,
        "CELERY_BROKER_READ_URL": url,
        "CELERY_BROKER_WRITE_URL": url,
        "CELERY_BROKER_USE_SSL": tls,
        "CELERY_BROKER_CONNECTION_TIMEOUT": CONNECT_SECONDS,
        "CELERY_BROKER_HEARTBEAT": HEARTBEAT_SECONDS,
        "CELERY_BROKER_TRANSPORT_OPTIONS": options,
    }


def _redis_settings(url: str) -> dict[str, Any]:
    pool: Any = redis_pool(url)
    found = pool.connection_kwargs
    user_info = _user_info(found.get("username"), found.get("password"))
    database = found.get("db") or 0
    options = {**REDIS_OPTIONS, **{name: found[name] for name in REDIS_OPTIONS if name in found}}
    tls = {name: found[name] for name in found if name.startswith("ssl_")}
    scheme = url.partition("://")[0]
    if scheme == "unix":
        path = quote(found["path"])
        return _settings(f"redis+socket://{user_info}{path}?virtual_host={database}", options)
    if scheme == "sentinel":
        manager = pool.sentinel_manager
        options |= {
            "master_name": pool.service_name,
            "sentinel_kwargs": {
                "socket_connect_timeout": CONNECT_SECONDS,
                "socket_timeout": options["socket_timeout"],
                **manager.sentinel_kwargs,
            },
        }
        addresses = [s.connection_pool.connection_kwargs for s in manager.sentinels]
        urls = [
            f"sentinel://{user_info}{_host(one['host'])}:{one['port']}/{database}"
            for one in addresses
        ]
        return _settings(";".join(urls), options, tls or None)
    if scheme == "rediss":
        tls.setdefault("ssl_cert_reqs", "required")
    address = f"{_host(found['host'])}:{found.get('port', 6379)}"
    return _settings(f"redis://{user_info}{address}/{database}", options, tls or None)


def _amqp_settings(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme == "amqp":
        return _settings(url, {})
    given = dict(parse_qsl(parts.query))
    verification = given.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    tls: dict[str, Any] = {
        "cert_reqs": ssl.VerifyMode[f"CERT_{verification.upper()}"],
        **{AMQP_PARAMETERS[name]: given[name] for name in given if name in AMQP_PARAMETERS},
    }
    if verification != "none":
        tls["server_hostname"] = parts.hostname
    port = parts.port or 5671
    host, path = _host(str(parts.hostname)), parts.path
    user_info = parts.netloc.rpartition("@")[0]
    at = "@" if user_info else ""
    return _settings(f"amqp://{user_info}{at}{host}:{port}{path}", {}, tls)


def _check_amqp_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise ValueError(
            "must be a URL such as amqp://user:password@host:5672/vhost, with reserved characters "
            "such as / ? # @ of a password percent-encoded"
        )
    given = dict(parse_qsl(parts.query))
    known = {*AMQP_PARAMETERS, "ssl_cert_reqs"} if parts.scheme == "amqps" else set()
    for name in given:
        if name not in known:
            tls = ", which needs amqps:// (TLS)" if name.startswith("ssl_") and not known else ""
            raise ValueError(f"has a query parameter {name} that can't be used{tls}")
    check_tls_parameters(given)


def _user_info(username: str | None, password: str | None) -> str:
    if not (username or password):
        return ""
    secret = f":{quote(password, safe='')}" if password else ""
    return f"{quote(username or '', safe='')}{secret}@"


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
