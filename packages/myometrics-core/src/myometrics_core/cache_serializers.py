"""JSON serializer for shared caches; unlike pickle, loading runs no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["JSONSerializer", "is_pickled"]


class JSONSerializer:
    """``OPTIONS["serializer"]`` of Django's ``RedisCache``.

    Takes what JSON knows: a tuple comes back as a list, keys as texts; anything else, such as a
    time, raises ``TypeError`` when it is written. Numbers stay numbers for ``incr()``.
    """

    def dumps(self, value: Any) -> bytes:
        """``value`` as it is stored."""
        return json.dumps(value, separators=(",", ":")).encode()

    def loads(self, data: bytes) -> Any:
        """The value that ``data`` stands for; raises ``ValueError`` if it is no JSON."""
        return json.loads(data)


def is_pickled(cache: Mapping[str, Any]) -> bool:
    """Whether ``cache``, an entry of ``CACHES``, unpickles what others can write over a network."""
    backend = str(cache.get("BACKEND", "")).lower()
    options = cache.get("OPTIONS") or {}
    given = {str(name).lower(): str(value).lower() for name, value in options.items()}
    if "redis" in backend:
        return "pickle" in given.get("serializer", "pickle")
    return "memcached" in backend and "serde" not in given
