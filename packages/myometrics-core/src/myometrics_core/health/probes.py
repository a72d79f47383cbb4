"""The probes of the specification, and those of read replicas and of a separate Celery broker."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.request import ProxyHandler, Request, build_opener

from django.db import connection, connections

from ..conf.core_settings import core_settings
from ..conf.redis_urls import redis_pool
from ..db.replicas import replicas_left_out
from ..mail.backend import default_mail_backend, default_mail_backend_path
from .report import HealthProbe

TIMEOUT_SECONDS = 1.1
"""Network timeout of a probe: slightly below its deadline, so that its thread ends by itself."""
READ_ONLY: Final = {"postgresql": "SELECT current_setting('transaction_read_only')"}
LOCAL_BACKENDS = {"console", "dummy", "filebased", "locmem"}


class DatabaseProbe(HealthProbe):
    """One statement on a separate connection; never cached.

    A read-only PostgreSQL (a standby, or ``default_transaction_read_only`` after a full disk)
    counts as down: the site can't work with it.
    """

    name = "database"
    max_age = 0.0

    def run(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute(READ_ONLY.get(connection.vendor, "SELECT 'off'"))
                if cursor.fetchone() == ("on",):
                    raise RuntimeError("the database is read-only")
        finally:
            connection.close()


class RedisProbe(HealthProbe):
    """A write to ``REDIS_URL``: a Redis that is full or a replica responds to PING, too."""

    name = "redis"

    def is_configured(self) -> bool:
        return bool(core_settings.REDIS_URL)

    def run(self) -> None:
        from redis import Redis  # noqa: PLC0415  (an optional dependency)

        pool = redis_pool(
            core_settings.REDIS_URL,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
        )
        try:
            Redis(connection_pool=pool).set("myometrics:health", 1, ex=60)
        finally:
            pool.disconnect()


class ReplicasProbe(HealthProbe):
    """Down while a replica of ``MYOMETRICS["READ_REPLICAS"]`` is left out."""

    name = "replicas"

    def is_configured(self) -> bool:
        return bool(core_settings.READ_REPLICAS)

    def run(self) -> None:
        try:
            left_out = [alias for alias, is_left_out in replicas_left_out().items() if is_left_out]
        finally:
            connections.close_all()
        if left_out:
            raise RuntimeError(f"nothing is read from {', '.join(left_out)}")


class EmailProbe(HealthProbe):
    """Connects to the mail server through the site's e-mail backend."""

    name = "email"

    def is_configured(self) -> bool:
        path = default_mail_backend_path()
        return path is not None and LOCAL_BACKENDS.isdisjoint(path.split("."))

    def run(self) -> None:
        mailer = default_mail_backend()
        if hasattr(mailer, "timeout"):
            mailer.timeout = TIMEOUT_SECONDS
        try:
            mailer.open()
        finally:
            mailer.close()


class MicroserviceProbe(HealthProbe):
    """``GET {MICROSERVICE_URL}/health`` must return ``{"status": "healthy"}``."""

    name = "microservice"

    def is_configured(self) -> bool:
        return bool(core_settings.MICROSERVICE_URL)

    def run(self) -> None:
        url = f"{core_settings.MICROSERVICE_URL.rstrip('/')}/health"
        request = Request(url, headers={"Accept": "application/json"})  # noqa: S310  (checked)
        with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT_SECONDS) as response:
            body = json.loads(response.read(65536))
        if not isinstance(body, dict) or body.get("status") != "healthy":
            raise RuntimeError("the image service reports that it is not healthy")


class BrokerProbe(HealthProbe):
    """Celery's broker, if it is not the Redis of ``REDIS_URL``; register it if needed."""

    name = "broker"

    def run(self) -> None:
        from celery import current_app  # noqa: PLC0415  (an optional dependency)

        link: Any = current_app.connection_for_write(connect_timeout=TIMEOUT_SECONDS)
        with link:
            link.ensure_connection(max_retries=1, interval_start=0, timeout=TIMEOUT_SECONDS)


BUILT_IN_PROBES: Final = (DatabaseProbe(), RedisProbe(), EmailProbe(), MicroserviceProbe())
