"""Compare a known access token of an identity provider with our own, on PostgreSQL and Redis.

``python -m benchmarks.foreign_tokens`` prints the CPU time of ``GET auth/user/`` in the site's
process, for both kinds of token and the whole request: medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from myometrics_testing.services import OwnedServer

ROOT = Path(__file__).resolve().parent.parent
ISSUER = "https://provider.example"
PROVIDERS = {"google": {"issuer": ISSUER, "client_id": "a", "access_tokens": "tokeninfo"}}


def main() -> None:
    """Start a database, fill it, and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--requests", type=int, default=100)
    options = parser.parse_args()
    with OwnedServer("postgresql") as server, OwnedServer("redis") as redis:
        os.environ |= {
            "ALLOWED_HOSTS": "testserver",
            "DATABASE_URL": server.url,
            "REDIS_URL": redis.url,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "IDENTITY_PROVIDERS": json.dumps(PROVIDERS),
            "JOB_RUNNER": "none",
            "LOG_LEVEL": "ERROR",
            "RATE_LIMIT_API": "1000000000/minute",
            "SECRET_KEY": "x" * 50,
        }
        sys.path.insert(0, str(ROOT / "example_project"))
        compare(options.rounds, options.requests)


def compare(rounds: int, requests: int) -> None:
    """Print the medians for both kinds of token, and their ratio."""
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    clients = _clients()
    found: dict[str, list[float]] = {name: [] for name in clients}
    for number in range(rounds + 2):
        for name, client in clients.items():
            started = time.process_time()
            for _ in range(requests):
                assert client.get("/api/auth/user/").status_code == 200
            if number >= 2:  # the first rounds compile and cache
                found[name].append((time.process_time() - started) / requests * 1e6)
    medians = {name: statistics.median(values) for name, values in found.items()}
    for name, value in medians.items():
        ratio = value / medians["own token"]
        print(f"{name:30} {value:7.0f} µs  {ratio:.3f} ×")


def _clients() -> dict[str, Any]:
    from django.contrib.auth import get_user_model
    from rest_framework.test import APIClient

    from myometrics_auth.federation.models import ForeignToken
    from myometrics_auth.models import Session
    from myometrics_auth.tokens import access_token
    from myometrics_core.times import utc_now

    user = get_user_model().objects.create_user("ada@clinic.example", "quiet-otter-42")
    end = utc_now() + timedelta(hours=1)
    session = Session.objects.create(user=user, expires_at=end)
    opaque = f"ya29.{uuid.uuid4().hex * 6}"
    jwt = f"eyJhbGciOiJSUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6ImEifQ.{uuid.uuid4().hex * 20}.x"
    for token in (opaque, jwt):
        ForeignToken.objects.create(
            token_hash=hashlib.sha256(token.encode()).hexdigest(),
            state="accepted",
            provider="google",
            session=session,
            expires_at=end,
            kept_until=end,
        )
    tokens = {
        "own token": access_token(session),
        "known opaque foreign token": opaque,
        "known foreign JWT": jwt,
    }
    clients = {}
    for name, token in tokens.items():
        clients[name] = APIClient()
        clients[name].credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return clients


if __name__ == "__main__":
    main()
