"""The composed system: in this process for most tests, as real servers for the journey."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import psycopg
import pytest
from django.contrib.auth import get_user_model
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from rest_framework.test import APIClient
from unreachable import connections_to

from config.databases import HAS_POOL
from myometrics_auth.models import Session
from myometrics_auth.tokens import access_token
from myometrics_core.times import utc_now

PASSWORD = "correct-horse-battery"
collect_ignore = [] if HAS_POOL else ["test_database_pool.py"]


def pytest_addoption(parser):
    parser.getgroup("myometrics").addoption(
        "--asgi", action="store_true", help="Send requests through the ASGI handler"
    )


@pytest.fixture(scope="session", autouse=True)
def _requests_go_through_asgi(pytestconfig):
    """With ``--asgi``, every ``APIClient`` is one of the ASGI application."""
    if not pytestconfig.getoption("asgi"):
        yield
        return
    from asgi_client import AsgiClientHandler

    # As Django's test client does: the test's transaction is on this connection.
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rest_framework.test.ForceAuthClientHandler", AsgiClientHandler)
        yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture
def connect(django_db_blocker):
    """:func:`unreachable.connections_to`, for the time of the test."""
    with ExitStack() as stack:
        stack.enter_context(django_db_blocker.unblock())

        def make(url, pool_size=0):
            handler = connections_to(url, pool_size)
            if pool_size:
                stack.callback(handler["default"].close_pool)
            stack.callback(handler.close_all)
            return handler

        yield make


@pytest.fixture
def wrong_password(postgresql_server):
    """A URL with a password that its server rejects."""
    host = unquote(urlsplit(postgresql_server.url).netloc.rpartition("@")[2])
    rules = Path(host, "data", "pg_hba.conf")
    with psycopg.connect(postgresql_server.url, autocommit=True) as superuser:
        superuser.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
        rules.write_text(f"local all locked scram-sha-256\n{rules.read_text()}")
        superuser.execute("SELECT pg_reload_conf()")
    return f"postgresql://locked:wrong@{quote(host, safe='')}/postgres"


def make_user(email, role="doctor", **fields):
    """Create a user with the model's manager."""
    return get_user_model().objects.create_user(email=email, password=PASSWORD, role=role, **fields)


def sign_in(user):
    """A client with the access token of a login as ``user``."""
    client = APIClient()
    answer = client.post(
        "/api/auth/login/", {"email": user.email, "password": PASSWORD}, format="json"
    )
    assert answer.status_code == 200, answer.json()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {answer.json()['access']}")
    client.tokens = answer.json()
    return client


@pytest.fixture
def anonymous_client():
    """A client that has not signed in."""
    return APIClient()


@pytest.fixture
def doctor(db):
    return make_user("doctor@clinic.example", first_name="John", last_name="Doe")


@pytest.fixture
def administrator(db):
    return make_user("admin@clinic.example", role="admin", first_name="Ada", last_name="Berger")


@pytest.fixture
def as_doctor(doctor):
    return sign_in(doctor)


@pytest.fixture
def as_administrator(administrator):
    return sign_in(administrator)


@pytest.fixture(autouse=True)
def _reset_rate_limits():
    from myometrics_core.api import rate_limiter

    yield
    rate_limiter._limiters.clear()
    rate_limiter._local_until = 0.0


@pytest.fixture(autouse=True)
def _empty_redis(request):
    import os

    if os.environ.get("REDIS_URL"):
        request.getfixturevalue("redis_url")


@pytest.fixture(autouse=True)
def _dependency_timeouts(long_dependency_timeouts):
    """Long timeouts: health checks must not fail on a slow machine."""


UNLIMITED = {"auth": None, "api": None, "export": None}


def client_of(user, **fields):
    """A client with an access token of a new session of ``user``, without a login request."""
    session = Session.objects.create(user=user, expires_at=utc_now() + timedelta(days=7), **fields)
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {access_token(session)}")
    client.session_of_token = session
    return client


def send_json(client, method, path, body):
    """Send ``body`` as ASCII JSON, including lone surrogates."""
    return client.generic(method, path, json.dumps(body).encode(), "application/json")


def assert_error(response, status, *, code=None, field=None):
    """Assert that ``response`` is an error of the contract's shape; return its body."""
    assert response.status_code == status, (response.status_code, response.content[:500])
    assert response["Content-Type"].startswith("application/json")
    body = response.json()
    assert set(body) == {"detail", "code", "field_errors"}
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", body["code"])
    for problems in body["field_errors"].values():
        assert problems
        assert all(isinstance(problem, str) and problem for problem in problems)
    assert code in (None, body["code"])
    if field is not None:
        assert field in body["field_errors"], body
    return body


@pytest.fixture
def unlimited(settings):
    """No rate limits."""
    settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": UNLIMITED}


@pytest.fixture
def cheap_hashes(settings):
    """A fast password hasher."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
