"""Faults of the machine: the database's disk is full, the clock is moved back.

Real processes on a real, small disk; failures are clean, and the site recovers by itself.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest
from fault_checks import assert_clean, count, entries
from load import Load, upload
from redis import Redis
from running_site import ADMIN, LONG_TIMEOUTS, PROJECT, RunningSite

from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.any_database

LIMIT_SECONDS = 3600
"""Longer than any test: throttled clients stay throttled until the test moves the clock."""


@pytest.fixture(scope="module")
def postgresql():
    with OwnedServer("postgresql-on-a-small-disk") as server:
        yield server


@pytest.fixture(scope="module")
def redis():
    with OwnedServer("redis") as server:
        yield server


@pytest.fixture(scope="module")
def site(tmp_path_factory, postgresql, redis):
    running = RunningSite(tmp_path_factory.mktemp("site"), postgresql.url, redis.url)
    folders = [str(PROJECT / "tests" / "moved_clock"), LONG_TIMEOUTS["PYTHONPATH"]]
    folders.append(os.environ.get("PYTHONPATH", ""))
    running.environment |= {
        **LONG_TIMEOUTS,
        "RATE_LIMIT_API": "100000/minute",
        "RATE_LIMIT_AUTH": f"6/{LIMIT_SECONDS}seconds",
        "PYTHONPATH": os.pathsep.join(folders),
        "CLOCK_IS_MOVED_BACK_BY": str(running.folder / "moved-back"),
    }
    try:
        running.start()
        running.make_administrator()
        yield running
    finally:
        running.stop()


def test_site_survives_full_disk_of_database(site, postgresql):
    access = site.sign_in()
    started = "SELECT pg_postmaster_start_time()"
    before = count(postgresql, started)
    # Only the tables cannot grow: the write-ahead log is on another disk.
    count(postgresql, "SELECT pg_switch_wal()::text")
    with Load(site.url, access) as load:
        load.wait_for_successes()
        postgresql.fill()
        try:
            wait_for(lambda: len(load.refused) >= 8)
            assert site.request(access, "GET", "/auth/user/").status_code == 200
            assert site.request(access, "GET", "/audit-logs/").status_code == 200
            assert site.request(access, "GET", "/analytics/").status_code == 200
        finally:
            postgresql.free()
        load.wait_for_successes()
    assert_clean(load.refused)
    assert {(a.request.method, a.status_code) for a in load.refused} <= {
        ("POST", 500),
        ("POST", 503),
    }
    assert load.broken == []
    assert "No space left on device" in site.log
    assert set(load.written) <= entries(postgresql)
    kept = "SELECT count(*) FROM myometrics_audit_auditlog WHERE action = 'load'"
    assert count(postgresql, kept) == len(load.written)
    assert site.request(access, "POST", "/audit-logs/", upload(1)).status_code == 201
    assert count(postgresql, started) == before
    site.manage("audit_verify")


HALF_AN_HOUR = timedelta(minutes=30)


def is_moved_back(moment):
    return datetime.now(timezone.utc) - moment > HALF_AN_HOUR


def move_all_clocks_back(site):
    """Both web processes agree: twenty responses in a row."""
    dates = [site.get("/livez").headers["Date"] for _ in range(20)]
    return all(is_moved_back(parsedate_to_datetime(date)) for date in dates)


def move_clock_back(site):
    Path(site.environment["CLOCK_IS_MOVED_BACK_BY"]).touch()
    wait_for(lambda: move_all_clocks_back(site))


def expire_rate_limits(redis):
    """Let every rate limit expire now."""
    with Redis.from_url(redis.url) as client:
        counts = list(client.scan_iter("LIMITS:*"))
        assert counts
        assert all(0 < client.ttl(key) <= LIMIT_SECONDS for key in counts)
        client.delete(*counts)


def test_site_survives_clock_moved_back_an_hour(site, postgresql, redis):
    signed_in = wait_for(lambda: (found := site.post_login()).is_success and found).json()
    wait_for(lambda: site.post_login().status_code == 429)
    move_clock_back(site)

    # Sessions remain valid and can be refreshed.
    access = signed_in["access"]
    assert site.request(access, "GET", "/auth/user/").status_code == 200
    refresh = {"refresh": signed_in["refresh"]}
    renewed = wait_for(lambda: (found := refreshed(site, refresh)).is_success and found).json()
    assert site.request(renewed["access"], "GET", "/auth/user/").status_code == 200

    # Throttled clients wait no longer than the rate limit's period.
    assert site.post_login().status_code == 429
    expire_rate_limits(redis)
    assert site.post_login().is_success

    # Cached health is not used for an hour after the move.
    wait_for(lambda: site.request(access, "GET", "/health/").json()["status"] == "healthy")

    # Mail is sent, entries keep their order, and are sealed.
    before = count(postgresql, "SELECT count(*) FROM myometrics_audit_seal")
    earlier = entries(postgresql)
    written = site.request(access, "POST", "/audit-logs/", upload(2)).json()
    assert is_moved_back(datetime.fromisoformat(written["timestamp"].replace("Z", "+00:00")))
    assert written["id"] in entries(postgresql)
    assert written["id"] > max(earlier)
    site.request(access, "POST", "/auth/password-reset/", {"email": ADMIN})
    site.mail_to(ADMIN)
    wait_for(lambda: count(postgresql, "SELECT count(*) FROM myometrics_audit_seal") > before)
    site.manage("audit_verify")


def refreshed(site, refresh):
    return httpx.post(f"{site.url}/api/auth/token/refresh/", json=refresh, timeout=PATIENCE)
