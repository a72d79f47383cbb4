"""Synchronise many users over SCIM with real requests, on PostgreSQL and Redis.

``python -m benchmarks.scim_sync [--users 10000]`` creates every user (``POST``), changes each
(``PATCH``), looks every tenth up (``GET`` with a filter), and lists all of them, through the site's
WSGI application in this process. After each tenth it prints the requests per second of that tenth,
their processor time, and the memory of the process. None may depend on the number of users.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from myometrics_testing.services import OwnedServer

ROOT = Path(__file__).resolve().parent.parent
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
PARTS = 10
"""Measurements of each kind of request."""
PAGE = 100
DAY = timedelta(days=1)


def main() -> None:
    """Start the servers, synchronise, and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=10_000)
    options = parser.parse_args()
    with OwnedServer("postgresql") as server, OwnedServer("redis") as redis:
        os.environ |= {
            "ALLOWED_HOSTS": "testserver",
            "DATABASE_URL": server.url,
            "REDIS_URL": redis.url,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "JOB_RUNNER": "none",
            "LOG_LEVEL": "ERROR",
            "SCIM_PROVIDERS": '{"entra": {}}',
            "SECRET_KEY": "x" * 50,
        }
        sys.path.insert(0, str(ROOT / "example_project"))
        synchronise(options.users)


def synchronise(users: int) -> None:
    """Create and change the users, and print the measurements."""
    import django
    from django.conf import settings

    settings.MYOMETRICS["RATE_LIMITS"]["scim"] = None
    django.setup()
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application

    from myometrics_auth.scim.provisioning_tokens import token_create

    call_command("migrate", verbosity=0)
    provider = Provider(get_wsgi_application(), token_create(provider="entra", lifetime=DAY)[1])
    provider.send("GET", "Users?count=0")  # imports what requests need
    measure("POST", users, provider.create)
    measure("PATCH", users, provider.change)
    measure("GET", users // PARTS, lambda number: provider.find(number * PARTS))
    listed: set[str] = set()
    pages = -(-users // PAGE)
    measure("list", pages, lambda number: listed.update(provider.page(number)))
    assert listed == set(provider.ids)
    print(f"{len(listed)} users listed")


class Provider:
    """An identity provider that sends its requests to a WSGI application.

    Django's test client would keep some memory of each request.
    """

    def __init__(self, application: Any, token: str) -> None:
        self.application = application
        self.token = token
        self.ids: list[str] = []

    def send(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """Send one request; return the body of the response."""
        data = b"" if body is None else json.dumps(body).encode()
        url = urlsplit(f"/scim/v2/entra/{path}")
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_AUTHORIZATION": f"Bearer {self.token}",
            "CONTENT_TYPE": "application/scim+json",
            "CONTENT_LENGTH": str(len(data)),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(data),
            "wsgi.errors": sys.stderr,
        }
        response = self.application(environ, lambda *_arguments: None)
        try:
            text = b"".join(response)
        finally:
            response.close()
        assert response.status_code == status, text
        return json.loads(text)

    def create(self, number: int) -> None:
        """Create a user."""
        address = f"user{number}@clinic.example"
        body = {
            "schemas": [USER],
            "externalId": f"external-{number}",
            "userName": address,
            "name": {"givenName": "Given", "familyName": f"Family {number}"},
            "emails": [{"type": "work", "value": address, "primary": True}],
            "active": True,
        }
        self.ids.append(self.send("POST", "Users", body, 201)["id"])

    def change(self, number: int) -> None:
        """Change a user."""
        operation = {"op": "Replace", "path": "displayName", "value": f"User {number}"}
        body = {"schemas": [PATCH], "Operations": [operation]}
        self.send("PATCH", f"Users/{self.ids[number]}", body)

    def find(self, number: int) -> None:
        """Look a user up, as providers do before they create one."""
        filter_ = quote(f'userName eq "user{number}@clinic.example"')
        (found,) = self.send("GET", f"Users?filter={filter_}")["Resources"]
        assert found["id"] == self.ids[number]

    def page(self, number: int) -> set[str]:
        """Return the ids of one page of users."""
        page = self.send("GET", f"Users?startIndex={number * PAGE + 1}&count={PAGE}")
        assert page["totalResults"] == len(self.ids)
        return {user["id"] for user in page["Resources"]}


def measure(name: str, requests: int, send: Callable[[int], None]) -> None:
    """Send the requests, and print the measurements of each part of them."""
    step = max(1, requests // PARTS)
    wall, processor = time.perf_counter(), time.process_time()
    for number in range(requests):
        send(number)
        if (number + 1) % step == 0:
            rate = step / (time.perf_counter() - wall)
            spent = (time.process_time() - processor) / step * 1000
            memory = resident_megabytes()
            print(
                f"{name:5} {number + 1:6}  {rate:5.0f} requests/s  "
                f"{spent:5.1f} ms of processor time  {memory:4.0f} MB",
                flush=True,
            )
            wall, processor = time.perf_counter(), time.process_time()


def resident_megabytes() -> float:
    """Return the memory that this process occupies."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
