"""Rate limits in three buckets, exact under concurrency.

Specification: "Rate Limiting". Requests are counted in a moving window of the ``limits`` library,
in Redis, the database or process memory; see ``MYOMETRICS["RATE_LIMIT_STORAGE"]``.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from ipaddress import ip_network
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.exceptions import RequestDataTooBig
from django.http import UnreadablePostError
from limits import RateLimitItem
from limits import parse as parse_rate
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, RedisStorage, Storage, storage_from_string
from limits.strategies import MovingWindowRateLimiter
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from ..conf.core_settings import RATE_LIMIT_BUCKETS, core_settings
from ..conf.redis_urls import is_redis_url, redis_pool
from ..http.addresses import client_address
from ..users.pseudonyms import keyed_hash
from ..users.user_model import has_user_row

logger = logging.getLogger("myometrics.core.throttling")

LOCAL_SECONDS = 5.0
"""Seconds for which an unreachable storage is not retried."""
BODY_ERRORS = (APIException, RequestDataTooBig, UnreadablePostError)
"""Exceptions from reading and parsing a body."""


@dataclass(frozen=True)
class RateLimitResult:
    """Whether a request is allowed, and if not, after how many whole seconds to retry."""

    allowed: bool
    retry_after: int = 0


def rate_limit_key(request: Request, view: Any, bucket: str) -> str:
    """Return the key that a request counts against: the view's identity, the user, or the address.

    A principal without a row in the user table counts by its address.
    """
    identity = view.rate_limit_identity(request)
    if identity:
        return str(identity)
    return f"user:{request.user.pk}" if has_user_row(request.user) else address_key(request)


def address_key(request: Request) -> str:
    """Return the key of the client's address."""
    address = client_address(request)
    if address is not None and ":" in address:
        # A client usually controls the whole network of an IPv6 address.
        return f"address:{ip_network(f'{address}/64', strict=False)}"
    return f"address:{address}"


class BucketThrottle(BaseThrottle):
    """Counts a request in its view's ``throttle_bucket``.

    Buckets ``api`` and ``export`` span all endpoints; in ``auth`` each endpoint counts separately,
    and so does a view with a ``throttle_rate`` of its own.
    """

    result = RateLimitResult(allowed=True)

    def allow_request(self, request: Request, view: Any) -> bool:
        bucket, own_rate = view.throttle_bucket, getattr(view, "throttle_rate", None)
        rates = core_settings.RATE_LIMITS
        rate = own_rate or (rates.get(bucket, RATE_LIMIT_BUCKETS[bucket]) if bucket else None)
        if not rate:
            return True
        scope = str(bucket)
        if own_rate or bucket == "auth":
            scope = f"{own_rate or bucket}:{type(view).__name__}"
        self.result = rate_limiter.hit(rate, scope, self._key(request, view, bucket))
        return self.result.allowed

    def wait(self) -> float:
        return float(self.result.retry_after)

    def _key(self, request: Request, view: Any, bucket: str) -> str:
        """Return the key of the request, or its address if the key needs an unusable body."""
        if getattr(view, "body_error", None) is None:
            try:
                return str(core_settings.RATE_LIMIT_KEY(request, view, bucket))
            except BODY_ERRORS as error:
                view.body_error = error  # raised by the view after the request was counted
        return address_key(request)


class RateLimiter:
    """Counts hits in the configured storage, with a fallback while it is unreachable."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limiters: dict[str, MovingWindowRateLimiter] = {}
        self._local = MovingWindowRateLimiter(MemoryStorage())
        self._local_until = 0.0

    def hit(self, rate: RateLimitItem | str, scope: str, key: str) -> RateLimitResult:
        """Count one request of ``key`` in ``scope`` against ``rate`` (``"5/minute"``).

        Does not raise if the storage is unreachable. The key is hashed before it is stored, so that
        the storage contains no addresses.
        """
        if isinstance(rate, str):
            rate = _parsed_rate(rate)
        identifiers = (scope, keyed_hash("rate limit", key))
        if time.monotonic() >= self._local_until:
            try:
                return _hit(self._limiter(), rate, identifiers)
            except (StorageError, ConfigurationError, ImportError, ValueError) as error:
                self._local_until = time.monotonic() + LOCAL_SECONDS
                logger.warning(
                    "Rate-limit storage can't be reached (%s); for %.0f s the policy is %r",
                    type(error.__cause__ or error).__name__,
                    LOCAL_SECONDS,
                    core_settings.RATE_LIMIT_WHEN_UNAVAILABLE,
                )
        policy = core_settings.RATE_LIMIT_WHEN_UNAVAILABLE
        if policy == "local":
            return _hit(self._local, rate, identifiers)
        return RateLimitResult(allowed=policy == "allow", retry_after=math.ceil(LOCAL_SECONDS))

    def reset(self) -> None:
        """Delete every count that this process can reach. For tests and operators."""
        for limiter in [self._local, self._limiter()]:
            limiter.storage.reset()
        self._local_until = 0.0

    def _limiter(self) -> MovingWindowRateLimiter:
        uri = storage_uri()
        if uri not in self._limiters:
            with self._lock:
                if uri not in self._limiters:
                    self._limiters[uri] = MovingWindowRateLimiter(storage_for(uri))
        return self._limiters[uri]


rate_limiter = RateLimiter()
"""The rate limiter of this process, shared by all views."""


def storage_uri() -> str:
    """Return the URI of the current storage; see ``MYOMETRICS["RATE_LIMIT_STORAGE"]``."""
    uri = core_settings.RATE_LIMIT_STORAGE
    if uri:
        return str(uri)
    return "database://" if apps.is_installed("myometrics_core.rate_limits") else "memory://"


def storage_for(uri: str) -> Storage:
    """Return the storage at ``uri``, not connected yet; raises for an unusable one."""
    if uri.startswith("database:"):
        # The import registers the scheme. It loads a model, so the app must be installed.
        from ..rate_limits.storage import DatabaseStorage  # noqa: PLC0415

        return DatabaseStorage(uri, wrap_exceptions=True)
    if uri.startswith("memory:") and not django_settings.DEBUG:
        # Once per process: the effective rate is multiplied by the number of processes.
        logger.warning("Rate limits are counted in the memory of process %d alone", os.getpid())
    options: dict[str, Any] = {}
    if is_redis_url(uri) or uri.startswith("redis"):
        # The library reads sys.modules: a module that another thread is still importing has no
        # version yet. An import waits for it.
        import_module("redis")
        options = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
    if is_redis_url(uri):
        pool = redis_pool(uri, **options)
        return RedisStorage(uri, connection_pool=pool, wrap_exceptions=True)
    return storage_from_string(uri, wrap_exceptions=True, **options)  # type: ignore[return-value]


def _hit(
    limiter: MovingWindowRateLimiter, rate: RateLimitItem, identifiers: tuple[str, str]
) -> RateLimitResult:
    if limiter.hit(rate, *identifiers):
        return RateLimitResult(allowed=True)
    reset_at = limiter.get_window_stats(rate, *identifiers).reset_time
    # In the second of the reset the oldest request may still count.
    seconds = math.floor(reset_at - time.time()) + 1
    return RateLimitResult(allowed=False, retry_after=max(1, min(seconds, rate.get_expiry())))


@lru_cache(maxsize=32)
def _parsed_rate(text: str) -> RateLimitItem:
    return parse_rate(text)
