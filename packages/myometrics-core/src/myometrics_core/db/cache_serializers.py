"""JSON serializer for shared caches. Unlike pickle, it can't execute code on load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class JSONSerializer:
    """``OPTIONS["serializer"]`` of Django's ``RedisCache``.

    Supports JSON values: a tuple is read back as a list, keys as strings. Other types, such as
    datetimes, raise ``TypeError`` on write. Integers stay integers for ``incr()``.
    """

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value, separators=(",", ":")).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)


def is_pickled(cache: Mapping[str, Any]) -> bool:
    """Return whether ``cache``, an entry of ``CACHES``, unpickles values from a network server."""
    backend = str(cache.get("BACKEND", "")).lower()
    options = cache.get("OPTIONS") or {}
    given = {str(name).lower(): str(value).lower() for name, value in options.items()}
    if "redis" in backend:
        return "pickle" in given.get("serializer", "pickle")
    return "memcached" in backend and "serde" not in given
