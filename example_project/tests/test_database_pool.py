"""A pool that can't give a connection fails a request at once, and recovers at the first one.

No test measures time: a request that waits too long hangs the test.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack

import psycopg
import pytest
from django.db import DatabaseError
from unreachable import REFUSED, attempt, is_refused

from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.any_database

SIZE = 3
NONE_IN_TIME = "couldn't get a connection"


@pytest.fixture
def pool_of(connect):
    """A function that returns the full pool of a URL, and connections from it."""

    def make(url):
        handler = connect(url, SIZE)
        pool = handler["default"].pool
        pool.open()
        wait_for(lambda: pool.get_stats()["pool_available"] == SIZE)
        return handler, pool

    return make


@pytest.fixture
def empty_pool_of(connect):
    """A function that returns connections to an unreachable database, whose pool is empty."""

    def make(url):
        handler = connect(url, SIZE)
        handler["default"].pool.open()
        wait_for(lambda: handler["default"].pool.get_stats()["pool_size"] == 0)
        return handler

    return make


def test_wrong_password_fails_at_once(empty_pool_of, wrong_password, caplog):
    wait_for(lambda: is_refused(wrong_password))
    handler = empty_pool_of(wrong_password)
    assert "password authentication failed" in attempt(handler)
    assert "password authentication failed" in caplog.text


def test_refused_port_fails_at_once(empty_pool_of):
    handler = empty_pool_of(REFUSED)
    assert all("refused" in attempt(handler) for _ in range(3))


def test_concurrent_requests_fail_at_once(empty_pool_of, run_concurrently):
    handler = empty_pool_of(REFUSED)
    errors = run_concurrently(lambda: attempt(handler), times=10)
    assert all("refused" in error for error in errors)


def test_request_while_pool_is_filled_fails_after_its_timeout(connect):
    handler = connect(REFUSED, SIZE)
    handler["default"].pool.timeout = 0.01
    error = attempt(handler)
    assert "refused" in error or NONE_IN_TIME in error


def test_full_pool_fails_a_request_after_its_timeout(pool_of, server):
    handler, pool = pool_of(server.url)
    taken = [pool.getconn() for _ in range(SIZE)]
    pool.timeout = 0.01
    assert NONE_IN_TIME in attempt(handler)
    pool.timeout = PATIENCE
    for one in taken:
        pool.putconn(one)
    handler["default"].ensure_connection()


def test_unresponsive_server_fails_after_timeout(connect, postgresql_server):
    handler = connect(postgresql_server.url, SIZE)
    handler["default"].pool.timeout = 0.01
    postgresql_server.freeze()
    try:
        assert NONE_IN_TIME in attempt(handler)
    finally:
        postgresql_server.thaw()


def test_first_request_after_restart_succeeds(pool_of, postgresql_server):
    handler, pool = pool_of(postgresql_server.url)
    postgresql_server.stop()
    postgresql_server.start()
    with handler["default"].cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    # All connections were replaced, not only the one that was taken.
    wait_for(lambda: pool.get_stats()["pool_available"] == SIZE - 1)
    assert pool.get_stats()["connections_num"] == 2 * SIZE


@pytest.mark.program("pgbouncer")
def test_request_fails_if_pooler_lost_its_server(pool_of, postgresql_server, tmp_path):
    """PgBouncer accepts logins but rejects the first query of each."""
    configuration = tmp_path / "pgbouncer.ini"
    configuration.write_text("[pgbouncer]\nquery_wait_timeout = 1\nserver_login_retry = 1\n")
    with OwnedServer("pgbouncer", postgresql_server.url, str(configuration)) as pooler:
        handler, pool = pool_of(pooler.url)
        postgresql_server.stop()
        wait_for(lambda: rejects_queries(pooler.url))
        errors = []

        def request():
            try:
                with handler["default"].cursor() as cursor:
                    cursor.execute("SELECT 1")
            except DatabaseError as error:
                errors.append(error)
            handler["default"].close()

        # A request that never fails would hang the test run.
        thread = threading.Thread(target=request, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert len(errors) == 1
        # All of the pool's connections come back.
        postgresql_server.start()
        wait_for(lambda: not rejects_queries(pooler.url))
        with ExitStack() as stack:
            for _ in range(SIZE):
                other = stack.enter_context(pool.connection(PATIENCE))
                other.execute("SELECT 1")


def rejects_queries(url):
    """Whether the pooler accepts a login, and fails its first query."""
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            connection.execute("SELECT 1")
        except psycopg.Error:
            return True
    return False


@pytest.fixture(scope="module")
def server():
    with OwnedServer("postgresql") as server:
        yield server
