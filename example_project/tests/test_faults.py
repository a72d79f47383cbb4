"""Faults of real processes: failures are clean, and the site recovers by itself.

One site for all of these: PostgreSQL, Redis and the processes of the site; every test
leaves it as it found it.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from contextlib import contextmanager

import psycopg
import pytest
from fault_checks import assert_clean, count, entries
from load import Load, upload
from running_site import ADMIN, RunningSite

from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.any_database

CLIENT_TIMEOUT = 10
"""Seconds; longer pauses of clients are intended by a test."""


@pytest.fixture(scope="module")
def postgresql():
    with OwnedServer("postgresql") as server:
        yield server


@pytest.fixture(scope="module")
def redis():
    with OwnedServer("redis") as server:
        yield server


@pytest.fixture(scope="module")
def running(tmp_path_factory, postgresql, redis):
    site = RunningSite(tmp_path_factory.mktemp("site"), postgresql.url, redis.url)
    site.environment |= {
        "RATE_LIMIT_AUTH": "10000/minute",
        "RATE_LIMIT_API": "100000/minute",
        "WEB_CLIENT_TIMEOUT": str(CLIENT_TIMEOUT),
    }
    try:
        site.start()
        site.make_administrator()
        yield site
    finally:
        site.stop()


@pytest.fixture
def site(running):
    running.wait_until_ready()
    yield running
    running.wait_until_ready()


@pytest.fixture
def access(site):
    return site.sign_in()


def test_site_survives_restart_of_postgresql_under_load(site, access, postgresql):
    with Load(site.url, access) as load:
        load.wait_for_successes()
        postgresql.stop()
        wait_for(lambda: len(load.refused) >= 8)
        postgresql.start()
        load.wait_for_successes()
    assert_clean(load.refused)
    assert {answer.status_code for answer in load.refused} <= {500, 503}
    assert load.broken == []
    assert set(load.written) <= entries(postgresql)
    site.manage("audit_verify")


def test_site_works_while_redis_is_stopped(site, access, redis):
    site.request(access, "PATCH", "/users/me/notifications/", {"email_notifications": True})
    mails = len(site.mails_to(ADMIN))
    redis.stop()
    try:
        access = site.sign_in()
        assert site.request(access, "GET", "/auth/user/").status_code == 200
        assert site.request(access, "GET", "/audit-logs/").status_code == 200
        assert site.request(access, "GET", "/analytics/").status_code == 200
        assert site.request(access, "POST", "/audit-logs/", upload(1)).status_code == 201
        health = wait_for(lambda: health_if_down(site, access))
        assert health["status"] == "degraded"
    finally:
        redis.start()
    assert site.request(access, "GET", "/auth/user/").status_code == 200
    # The pending mail is not lost: the sweep sends it.
    wait_for(lambda: len(site.mails_to(ADMIN)) > mails)


def health_if_down(site, access):
    answer = site.request(access, "GET", "/health/")
    services = answer.json()["services"]
    # On a busy machine the database probe may time out.
    if (services["redis"], services["database"]) != ("down", "up"):
        return None
    assert answer.status_code == 200
    return answer.json()


def test_site_works_while_redis_hangs(site, access, redis):
    redis.freeze()
    try:
        assert site.request(site.sign_in(), "GET", "/auth/user/").status_code == 200
        assert site.request(access, "POST", "/audit-logs/", upload(2)).status_code == 201
    finally:
        redis.thaw()


def web_processes(site):
    return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", site.log)]


def test_site_survives_killed_web_process_under_load(site, access):
    before = web_processes(site)
    with Load(site.url, access) as load:
        load.wait_for_successes()
        os.kill(before[-1], signal.SIGKILL)
        wait_for(lambda: len(web_processes(site)) == len(before) + 1)
        load.wait_for_successes()
    assert load.refused == []
    # Only the requests in progress are lost.
    assert len(load.broken) <= load.clients


def test_stalled_clients_are_disconnected_and_others_served(site, access):
    head = (
        b"POST /api/auth/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    )
    halves = [head, head + b"Content-Length: 1000\r\n\r\n{"]
    threads = int(site.environment["WEB_CONCURRENCY"]) * int(site.environment["WEB_THREADS"])
    stalled = [socket.create_connection(("127.0.0.1", site.port)) for _ in range(threads + 2)]
    try:
        for number, connection in enumerate(stalled):
            connection.settimeout(PATIENCE)
            connection.sendall(halves[number % 2])
        assert site.request(access, "GET", "/auth/user/").status_code == 200
        endings = [everything_from(connection) for connection in stalled]
    finally:
        for connection in stalled:
            connection.close()
    assert not any(b" 500 " in ending for ending in endings)
    assert site.request(access, "GET", "/auth/user/").status_code == 200


def everything_from(connection):
    return b"".join(iter(lambda: connection.recv(65_536), b""))


@contextmanager
def locked(postgresql, table):
    """Lock ``table`` until the block ends."""
    with psycopg.connect(postgresql.url) as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
# The worker seals, and waits for the same lock, but does not write entries.
WAITING_ENTRIES = f"{WAITING} AND query LIKE '%INSERT INTO \"myometrics_audit_auditlog\"%'"


def test_sigterm_lets_requests_end(site, access, postgresql):
    answers = []
    web = site.processes["web"]
    asking = threading.Thread(
        target=lambda: answers.append(site.request(access, "POST", "/audit-logs/", upload(3)))
    )
    with locked(postgresql, "myometrics_audit_auditlog"):
        asking.start()
        wait_for(lambda: count(postgresql, WAITING_ENTRIES))
        web.terminate()
        wait_for(lambda: "Handling signal: term" in site.log)
        assert web.poll() is None
    asking.join()
    assert web.wait(timeout=PATIENCE) == 0
    assert [answer.status_code for answer in answers] == [201]
    assert answers[0].json()["id"] in entries(postgresql)
    site.run("web")


def test_sigterm_lets_tasks_end(site, access, postgresql):
    worker, seals = site.processes["worker"], "SELECT count(*) FROM myometrics_audit_seal"
    before = count(postgresql, seals)
    with locked(postgresql, "myometrics_audit_seal"):
        assert site.request(access, "POST", "/audit-logs/", upload(4)).status_code == 201
        wait_for(lambda: count(postgresql, WAITING))
        worker.terminate()
        wait_for(lambda: "Warm shutdown" in site.log)
        assert worker.poll() is None
    assert worker.wait(timeout=PATIENCE) == 0
    assert count(postgresql, seals) > before
    site.run("worker")
