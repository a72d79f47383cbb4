"""Moving-window storage for the ``limits`` library in the database, exact across processes."""

from __future__ import annotations

import random
import time
from typing import Any

from django.db import connection, transaction
from limits.storage import MovingWindowSupport, Storage

from ..db.transactions import DATABASE_FAILURES, read_committed
from .models import CountedRequest

PURGE_INTERVAL = 50
"""One in this many requests deletes expired rows."""

INSERT = """
INSERT INTO {table} (key, counted_at, expires_at)
SELECT %s, %s, %s
WHERE (SELECT COUNT(*) FROM {table} WHERE key = %s AND counted_at > %s) <= %s
"""


class DatabaseStorage(Storage, MovingWindowSupport):
    """Counts each request with one conditional INSERT.

    SQLite serializes writers. On PostgreSQL an advisory lock on the key serializes the requests
    that count against the same key.
    """

    STORAGE_SCHEME = ["database"]

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return DATABASE_FAILURES

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Return whether the request was counted; raises ``ValueError`` if ``amount`` is not 1."""
        if amount != 1:
            raise ValueError(f"requests are counted one by one, not {amount} at once")
        now = time.time()
        with read_committed(), transaction.atomic(), connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])
                now = time.time()
            table = connection.ops.quote_name(CountedRequest._meta.db_table)
            row: list[Any] = [key, now, now + expiry, key, now - expiry, limit - 1]
            cursor.execute(INSERT.format(table=table), row)
            counted = cursor.rowcount == 1
        if random.randrange(PURGE_INTERVAL) == 0:
            # Other processes delete the same rows concurrently.
            with read_committed(), transaction.atomic():
                CountedRequest.objects.filter(expires_at__lt=now).delete()
        return counted

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        now = time.time()
        window = CountedRequest.objects.filter(key=key, counted_at__gt=now - expiry)
        times = list(window.order_by("-counted_at").values_list("counted_at", flat=True)[:limit])
        return (times[-1] if times else now), len(times)

    def reset(self) -> int:
        return CountedRequest.objects.all().delete()[0]

    def clear(self, key: str) -> None:
        CountedRequest.objects.filter(key=key).delete()

    def check(self) -> bool:
        try:
            return CountedRequest.objects.exists() or True
        except DATABASE_FAILURES:
            return False

    def get(self, key: str) -> int:
        return CountedRequest.objects.filter(key=key, expires_at__gt=time.time()).count()

    def get_expiry(self, key: str) -> float:
        newest = CountedRequest.objects.filter(key=key).order_by("-expires_at").first()
        return newest.expires_at if newest else time.time()

    def incr(self, key: str, expiry: int, amount: int = 1, **kwargs: Any) -> int:
        now = time.time()
        for _ in range(amount):
            CountedRequest.objects.create(key=key, counted_at=now, expires_at=now + expiry)
        return self.get(key)
