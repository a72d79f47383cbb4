"""Health answers within three seconds though every dependency hang: real servers, frozen."""

from __future__ import annotations

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psycopg
import pytest
from running_site import RunningSite

from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import wait_for

pytestmark = pytest.mark.alone

PROMISE = 3.0
"""Seconds."""


@pytest.fixture(scope="module")
def postgresql():
    with OwnedServer("postgresql") as server:
        yield server


@pytest.fixture(scope="module")
def redis():
    with OwnedServer("redis") as server:
        yield server


@pytest.fixture(scope="module")
def silent_port():
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory, postgresql, redis, silent_port):
    running = RunningSite(tmp_path_factory.mktemp("site"), postgresql.url, redis.url)
    running.environment |= {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": "127.0.0.1",
        "EMAIL_PORT": str(silent_port),
        "EMAIL_USE_TLS": "false",
        "MICROSERVICE_URL": f"http://127.0.0.1:{silent_port}",
        "RATE_LIMIT_API": "10000/minute",
    }
    try:
        running.manage("migrate", "--verbosity=0")
        running.run("web")
        running.wait_until_ready()
        running.make_administrator()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def access(site):
    token = site.sign_in()
    _warm_up(site, token)
    return token


def _warm_up(site, token):
    """Have every process load what its first request loads: that is not what is promised."""

    def once(_):
        return site.ask(token, "GET", "/health/")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(once, range(16)))


@contextmanager
def hanging(postgresql):
    """PostgreSQL hangs: the server, and every connection that it has."""
    with psycopg.connect(postgresql.url) as connection:
        serving = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
        found = connection.execute(f"{serving} AND pid <> pg_backend_pid()").fetchall()
    postgresql.freeze()
    for (pid,) in found:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for (pid,) in found:
            os.kill(pid, signal.SIGCONT)
        postgresql.thaw()


def ask(site, path, access=None):
    """The answer, which must come in time."""
    headers = {"Authorization": f"Bearer {access}"} if access else {}
    began = time.monotonic()
    answer = httpx.get(f"{site.url}{path}", headers=headers, timeout=30)
    took = time.monotonic() - began
    assert took < PROMISE, f"{path} took {took:.2f} s"
    return answer


def test_mail_server_and_image_service_hang(site, access):
    for _ in range(3):
        answer = ask(site, "/api/health/", access)
        assert answer.status_code == 200
        assert answer.json()["status"] == "degraded"
        assert answer.json()["services"] == {
            "database": "up",
            "redis": "up",
            "email": "down",
            "microservice": "down",
        }


def test_redis_hangs_too(site, access, redis):
    redis.freeze()
    try:
        answer = ask(site, "/api/health/", access)
        while answer.json()["services"]["redis"] == "up":  # remembered for some seconds
            answer = ask(site, "/api/health/", access)
    finally:
        redis.thaw()
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"


def test_the_database_hangs_too_and_eight_ask_at_once(site, access, postgresql, redis):
    redis.freeze()
    try:
        with hanging(postgresql):
            for _ in range(2):
                with ThreadPoolExecutor(8) as pool:
                    answers = list(pool.map(lambda _: ask(site, "/api/health/", access), range(8)))
                for answer in answers:
                    assert answer.status_code == 503
                    assert set(answer.json()) == {"status", "services", "last_check"}
                    assert answer.json()["status"] == "down"
                    assert answer.json()["services"]["database"] == "down"
            assert ask(site, "/readyz").status_code == 503
            assert ask(site, "/livez").status_code == 200
            assert ask(site, "/api/health/").status_code == 401
    finally:
        redis.thaw()


def test_all_is_told_to_be_up_again(site, access):
    wait_for(lambda: ask(site, "/api/health/", access).json()["services"]["database"] == "up")
    assert ask(site, "/readyz").status_code == 200
