"""The part of the load report that runs inside a site, by its ``manage.py shell``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from running_site import RunningSite

RATE_LIMIT = """
import statistics, time, redis
from django.conf import settings
from limits import parse
from myometrics_core.api import rate_limiter
client, rate = redis.Redis.from_url(settings.REDIS_URL), parse("1000000/minute")
def seconds(act):
    start = time.perf_counter()
    for _ in range(200):
        act()
    return time.perf_counter() - start
rounds = [(seconds(lambda: rate_limiter.hit(rate, "api", "user:1")), seconds(client.ping))
          for _ in range(15)]
print(statistics.median(ours / bare for ours, bare in rounds))
"""
QUERIES = """
import json
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
AROUND = ("SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK", "BEGIN", "COMMIT")
client = Client(headers={"host": "localhost", "authorization": "Bearer %(token)s"})
def queries(method, path, body):
    sent = json.dumps(body) if body is not None else ""
    client.generic(method, path, sent, "application/json")
    with CaptureQueriesContext(connection) as captured:
        answer = client.generic(method, path, sent, "application/json")
    assert answer.status_code < 300, answer.content
    return sum(not query["sql"].startswith(AROUND) for query in captured)
print(json.dumps([queries(*request) for request in json.loads(%(requests)r)]))
"""


def queries(site: RunningSite, token: str, requests: Sequence[tuple[str, str, Any]]) -> list[int]:
    """Return the number of statements that the second of two requests sends to the database.

    Each request is a method, a path and a JSON body. Transaction control and savepoints are not
    counted.
    """
    script = QUERIES % {"token": token, "requests": json.dumps(requests)}
    found: list[int] = json.loads(site.manage("shell", "-c", script).splitlines()[-1])
    return found


def rate_limit_check(site: RunningSite) -> float:
    """Return the cost of a check, in round trips of a ``PING`` to Redis."""
    return float(site.manage("shell", "-c", RATE_LIMIT).split()[-1])
