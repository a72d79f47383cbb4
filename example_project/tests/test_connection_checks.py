"""A connection is checked before each request: without a query while nothing has happened to it."""

from __future__ import annotations

import psycopg
import pytest

from config.databases import HAS_POOL
from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import wait_for

POOL_SIZES = {"persistent": 0, "pool": 2} if HAS_POOL else {"persistent": 0}

pytestmark = [
    pytest.mark.any_database,
    pytest.mark.parametrize("pool_size", POOL_SIZES.values(), ids=list(POOL_SIZES)),
]


@pytest.fixture
def request_to(connect, pool_size):
    """A function that makes a function, which runs a query in a request of its own."""

    def make(url):
        handler = connect(url, pool_size)

        def request(sql=None):
            connection = handler["default"]
            connection.close_if_unusable_or_obsolete()
            with connection.cursor() as cursor:
                if sql:
                    cursor.execute(sql)
                value = cursor.fetchone()[0] if sql else None
            if connection.settings_dict["OPTIONS"].get("pool"):
                connection.close()
            return value

        return request

    return make


def execute(server, sql, *values):
    with psycopg.connect(server.url, autocommit=True, application_name="test") as connection:
        return connection.execute(sql, values).fetchall()


def backends(server):
    return execute(
        server,
        "SELECT pid, query, state_change FROM pg_stat_activity"
        # A session of the test itself may still be ending.
        " WHERE backend_type = 'client backend' AND application_name <> 'test' ORDER BY pid",
    )


def test_check_of_unchanged_connection_sends_no_query(request_to, server):
    request = request_to(server.url)
    request("SELECT 1")
    before = backends(server)
    request()
    assert backends(server) == before
    assert before


def test_request_after_terminated_connections_succeeds(request_to, server):
    request = request_to(server.url)
    pid = request("SELECT pg_backend_pid()")
    execute(
        server,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    )
    wait_for(lambda: pid not in [row[0] for row in backends(server)])
    assert request("SELECT pg_backend_pid()") != pid


def test_request_after_restart_succeeds(request_to, postgresql_server):
    request = request_to(postgresql_server.url)
    assert request("SELECT 1") == 1
    postgresql_server.stop()
    postgresql_server.start()
    assert request("SELECT 2") == 2


@pytest.fixture
def server():
    with OwnedServer("postgresql") as server:
        yield server
