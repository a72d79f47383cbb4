"""Settings of core: the dictionary ``MYOMETRICS``."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from limits import parse as parse_rate

from .definitions import DOTTED_PATH, Setting, SettingsGroup, http_url, positive
from .redis_urls import check_redis_url
from .secret_keys import django_secret_keys, key_list

RATE_LIMIT_BUCKETS = {
    "auth": "5/minute",
    "api": "100/minute",
    "export": "2/hour",
    "scim": "3000/minute",
}
"""Bucket → default rate. All but ``scim`` are from the specification ("Rate Limiting")."""
UNIX_SOCKET = "unix:"
"""Entry of ``TRUSTED_PROXIES`` for peers without an address; nginx uses the same notation."""


def _networks(value: Iterable[Any]) -> None:
    for network in value:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ValueError(
                f"holds {network!r}, which is no network such as '10.0.0.0/8' or '::1'"
            ) from None


def _rates(value: Mapping[str, Any]) -> None:
    for bucket, rate in value.items():
        if bucket not in RATE_LIMIT_BUCKETS:
            known = ", ".join(RATE_LIMIT_BUCKETS)
            raise ValueError(f"has an unknown bucket {bucket!r} (known: {known})")
        try:
            if rate is not None:
                parse_rate(rate)
        except (ValueError, TypeError, AttributeError):
            raise ValueError(f"has {rate!r} for {bucket!r}; expected such as '5/minute'") from None


def _redis_url(value: str) -> None:
    if value:
        check_redis_url(value)


class CoreSettings(SettingsGroup):
    """Settings that all MyoMetrics packages share."""

    name = "MYOMETRICS"
    app = "myometrics_core"

    TRUSTED_PROXIES = Setting(
        (list, tuple),
        (),
        "Networks (CIDR) of the proxies that may set the client's address; `unix:` stands for "
        "peers on a Unix socket, which have no address. Without proxies the peer is the client.",
        validate=lambda proxies: _networks(one for one in proxies if one != UNIX_SOCKET),
    )
    CLIENT_ADDRESS_HEADER = Setting(
        str, "X-Forwarded-For", "The one header in which trusted proxies send the client's address."
    )
    PSEUDONYM_KEYS = Setting(
        (list, tuple),
        None,
        "Keys of the pseudonyms of accounts and addresses, each at least 32 bytes; the first makes "
        "new ones, look-ups try all. By default `SECRET_KEY`, then `SECRET_KEY_FALLBACKS`.",
        validate=key_list,
    )
    RATE_LIMITS = Setting(
        dict,
        {},
        "Rate of each bucket (`auth`, `api`, `export`, `scim`); a bucket left out keeps its "
        "default (5/minute, 100/minute, 2/hour, 3000/minute), `None` switches it off.",
        validate=_rates,
    )
    RATE_LIMIT_STORAGE = Setting(
        str,
        None,
        "Where requests are counted: a Redis URL as in `REDIS_URL`, another storage URI of the "
        "`limits` library (`memory://`) or `database://`. By default the database where "
        "`myometrics_core.rate_limits` is installed, else the memory of each process.",
    )
    RATE_LIMIT_KEY = Setting(
        DOTTED_PATH,
        "myometrics_core.api.rate_limit_key",
        "Function of request, view and bucket that returns the key a request counts against.",
    )
    RATE_LIMIT_WHEN_UNAVAILABLE = Setting(
        str,
        "local",
        "Policy while the storage can't be reached: `local` counts in each process, `allow` "
        "accepts every request, `refuse` responds with 429.",
        choices=("local", "allow", "refuse"),
    )
    IS_ADMINISTRATOR = Setting(
        DOTTED_PATH,
        "myometrics_core.users.user_model.administrator_by_role_or_staff",
        "Function of a user that returns whether this is an administrator.",
    )
    ERASE_USER = Setting(
        DOTTED_PATH,
        None,
        "Function of a user that erases them, for user models whose `delete()` keeps the row. It "
        "runs last, in the transaction of the erasure; by default `user.delete()` does it.",
    )
    MAX_BODY_BYTES = Setting(
        int,
        2 * 1024 * 1024,
        "Largest request body in bytes; a larger one is a 413. Endpoints under `auth/` "
        "accept at most 16 KiB.",
        validate=positive,
    )
    JOB_RUNNER = Setting(
        str,
        "thread",
        "Runner of background jobs: `thread`, threads of the server's own processes; `celery`, its "
        "worker and beat (extra `celery`); `tasks`, the worker of Django's `TASKS` (Django 6), "
        "with `manage.py jobs_run --once` by cron; `none`, only processes of `manage.py jobs_run`.",
        choices=("thread", "celery", "tasks", "none"),
    )
    MICROSERVICE_URL = Setting(
        str,
        None,
        "Base URL of the image service; without it, it is `not_configured`.",
        validate=http_url,
    )
    REDIS_URL = Setting(
        str,
        None,
        "Redis that health checks (`redis://`, `rediss://`, `unix://` or `sentinel://`); without "
        "it, `not_configured`.",
        validate=_redis_url,
    )
    FRONTEND_URL = Setting(
        str, "http://localhost:3000", "Base URL that links in mails lead to.", validate=http_url
    )
    API_URL = Setting(
        str,
        "http://localhost:8001/api",
        "Public URL of the API; links in mails that lead here begin with its scheme and host.",
        validate=http_url,
    )
    SMTP_TIMEOUT = Setting(
        (int, float),
        10,
        "Seconds for each step of an SMTP conversation, if Django's `EMAIL_TIMEOUT` is not set.",
        validate=positive,
    )
    HEALTH_MAX_AGE = Setting(
        (int, float), 5.0, "Seconds for which a health result is reused.", validate=positive
    )
    HEALTH_SETTLE = Setting(
        (int, float),
        60.0,
        "Seconds for which a service must have been down, or up again, before the change is "
        "published.",
        validate=positive,
    )
    HEALTH_PROBE_TIMEOUT = Setting(
        (int, float),
        1.2,
        "Seconds after which a probe without a result counts as down (at most 2).",
        validate=positive,
    )
    ACCESS_LOG_EXCLUDE = Setting(
        (list, tuple),
        ("/livez", "/readyz", "/metrics"),
        "Paths that the access log and the metrics leave out.",
    )
    READ_REPLICAS = Setting(
        (list, tuple),
        (),
        "Aliases of `DATABASES` that lists and analytics are read from; "
        "`myometrics_core.db.ReplicaRouter` must be in `DATABASE_ROUTERS`.",
    )
    REPLICA_LAG = Setting(
        (int, float),
        5,
        "Maximum lag of a replica in seconds: one that lags more is left out, and after a request "
        "that writes, its user reads from the primary for so long.",
        validate=positive,
    )
    BACKUP_FILE = Setting(
        str,
        None,
        "File that each successful backup writes. The metrics and the doctor show its age.",
    )
    METRICS_TOKEN = Setting(
        str, None, "Bearer token with which Prometheus may read the metrics (extra `metrics`)."
    )
    METRICS_NETWORKS = Setting(
        (list, tuple),
        (),
        "Networks (CIDR) from which metrics may be read without the token.",
        validate=_networks,
    )
    ADMIN_SHOWS_INTERNALS = Setting(
        bool,
        False,
        "List the packages' internal records, such as seals, rollups and counted requests, in the "
        "admin site's index; their pages can be opened by URL either way.",
    )
    EXCEPTION_HANDLER = Setting(
        DOTTED_PATH,
        "myometrics_core.api.exception_handler",
        "Function of exception and context that converts an error into a response.",
    )
    RENDERER_CLASSES = Setting(
        (list, tuple), ("myometrics_core.api.CompactJSONRenderer",), "Renderers of every endpoint."
    )
    PARSER_CLASSES = Setting(
        (list, tuple), ("myometrics_core.api.StrictJSONParser",), "Parsers of every endpoint."
    )
    THROTTLE_CLASSES = Setting(
        (list, tuple), ("myometrics_core.api.BucketThrottle",), "Throttles of every endpoint."
    )

    @property
    def pseudonym_keys(self) -> list[str]:
        return [str(key) for key in self.PSEUDONYM_KEYS or django_secret_keys()]


core_settings = CoreSettings()
"""The settings ``MYOMETRICS`` with defaults, read at each access."""
