"""Rate limits are exact under concurrency, in every storage."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import time_machine
from django.db import connection
from limits import parse
from limits.strategies import MovingWindowRateLimiter
from rest_framework.test import APIClient

from myometrics_core.api import rate_limiter
from myometrics_core.api.throttling import RateLimiter, storage_for, storage_uri
from myometrics_core.times import utc_now
from myometrics_testing.waiting import PATIENCE

SIXTY = 60
RATE = parse("5/minute")


@pytest.fixture(autouse=True)
def _clock_stands_still():
    """Freeze the time, so that all requests of a test are within one minute."""
    with time_machine.travel(utc_now(), tick=False):
        yield


def sign_in(address="203.0.113.1", path="/api/sign-in/", **headers):
    return APIClient().post(path, {}, format="json", REMOTE_ADDR=address, **headers)


def _patient(redis_url):
    """Use long timeouts, so that a slow machine does not lose Redis."""
    return f"{redis_url}?socket_timeout={PATIENCE}&socket_connect_timeout={PATIENCE}"


@pytest.fixture(params=["memory", "database", "redis"])
def storage(request, settings):
    if request.param == "redis":
        uri = _patient(request.getfixturevalue("redis_url"))
    else:
        uri = f"{request.param}://"
    settings.MYOMETRICS = {"RATE_LIMIT_STORAGE": uri}
    return uri


@pytest.mark.django_db(transaction=True)
def test_five_of_sixty_simultaneous_requests_pass(storage, run_concurrently):
    statuses = [response.status_code for response in run_concurrently(sign_in, times=SIXTY)]
    assert statuses.count(200) == 5
    assert statuses.count(429) == 55


HIT = """
import sys
import django
django.setup()
from limits import parse
from limits.strategies import MovingWindowRateLimiter
from myometrics_core.api.throttling import RateLimiter
limiter = RateLimiter()
sys.stdin.readline()
print(sum(limiter.hit(parse("5/hour"), "auth:x", "address:1").allowed for _ in range(30)))
"""


@pytest.mark.parametrize("kind", ["database", "redis"])
@pytest.mark.django_db(transaction=True)
def test_two_processes_count_together(kind, redis_url, tmp_path):
    uri = "database://" if kind == "database" else _patient(redis_url)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HIT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment_of_this_database(uri),
        )
        for _ in range(2)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sum(int(process.communicate(timeout=PATIENCE)[0]) for process in processes) == 5


def _environment_of_this_database(uri):
    name = connection.settings_dict["NAME"]
    url = os.environ["DATABASE_URL"]
    if connection.vendor == "sqlite":
        url = f"sqlite:///{name}"
    else:
        url = url.replace("dbname=", "").rsplit("/", 1)[0] + f"/{name}" + _query_of(url)
    return {
        **os.environ,
        "DATABASE_URL": url,
        "RATE_LIMIT_STORAGE": uri,
        "DJANGO_SETTINGS_MODULE": "core_test_settings",
        "PYTHONPATH": str(Path(__file__).parent),
    }


def _query_of(url):
    return "?" + url.split("?", 1)[1] if "?" in url else ""


def test_429_has_exact_retry_after(db, settings, client):
    settings.MYOMETRICS = {"RATE_LIMITS": {"auth": "2/minute"}}
    for _ in range(2):
        assert sign_in().status_code == 200
    refused = sign_in()
    assert refused.status_code == 429
    assert refused.json()["code"] == "throttled"
    assert int(refused["Retry-After"]) == 60


def test_auth_bucket_counts_per_endpoint_and_address(db):
    for _ in range(5):
        sign_in()
    assert sign_in().status_code == 429
    assert sign_in(path="/api/sign-in/other/").status_code == 200
    assert sign_in(address="203.0.113.2").status_code == 200


def test_forged_header_does_not_change_the_count(db):
    statuses = [
        sign_in(HTTP_X_FORWARDED_FOR=f"198.51.100.{number}").status_code for number in range(60)
    ]
    assert statuses.count(200) == 5


def test_ipv6_addresses_count_by_network(db):
    statuses = [sign_in(address=f"2001:db8::{number:x}").status_code for number in range(1, 21)]
    assert statuses.count(200) == 5
    assert sign_in(address="2001:db8:0:1::1").status_code == 200


def test_export_bucket_spans_all_endpoints_of_a_user(signed_in):
    assert [signed_in.get("/api/export/").status_code for _ in range(3)] == [200, 200, 429]


def test_request_without_permission_counts(settings, signed_in):
    settings.MYOMETRICS = {"RATE_LIMITS": {"api": "2/minute"}}
    statuses = [signed_in.get("/api/administrators/").status_code for _ in range(3)]
    assert statuses == [403, 403, 429]


def test_anonymous_requests_do_not_use_up_an_address(db, settings, client):
    settings.MYOMETRICS = {"RATE_LIMITS": {"api": "2/minute"}}
    statuses = {client.get("/api/administrators/").status_code for _ in range(5)}
    assert statuses == {403}


def test_bucket_can_be_switched_off(db, settings):
    settings.MYOMETRICS = {"RATE_LIMITS": {"auth": None}}
    assert {sign_in().status_code for _ in range(20)} == {200}


def by_header(request, view, bucket):
    return request.headers["X-Clinic"]


def test_rate_limit_key_is_configurable(db, settings):
    settings.MYOMETRICS = {
        "RATE_LIMIT_KEY": "test_rate_limits.by_header",
        "RATE_LIMITS": {"auth": "1/minute"},
    }
    assert sign_in(HTTP_X_CLINIC="a").status_code == 200
    assert sign_in(HTTP_X_CLINIC="a").status_code == 429
    assert sign_in(HTTP_X_CLINIC="b").status_code == 200


def test_default_storage_is_database_if_app_is_installed(settings):
    assert storage_uri() == "database://"
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app != "myometrics_core.rate_limits"
    ]
    assert storage_uri() == "memory://"


@pytest.mark.parametrize(("policy", "passing"), [("local", 5), ("allow", 60), ("refuse", 0)])
def test_policy_applies_while_redis_is_down(
    db, settings, redis_server, caplog, monkeypatch, policy, passing
):
    monkeypatch.setattr("myometrics_core.api.throttling.LOCAL_SECONDS", PATIENCE)
    settings.MYOMETRICS = {
        "RATE_LIMIT_STORAGE": redis_server.url,
        "RATE_LIMIT_WHEN_UNAVAILABLE": policy,
    }
    redis_server.stop()
    statuses = [sign_in().status_code for _ in range(SIXTY)]
    assert statuses.count(200) == passing
    assert statuses.count(429) == SIXTY - passing
    assert caplog.text.count("can't be reached") == 1


def test_storage_contains_no_address(db, settings):
    from myometrics_core.rate_limits.models import CountedRequest

    settings.MYOMETRICS = {"RATE_LIMIT_STORAGE": "database://"}
    sign_in(address="203.0.113.77")
    assert CountedRequest.objects.exists()
    assert not CountedRequest.objects.filter(key__contains="203.0.113").exists()


@pytest.mark.django_db(transaction=True)
def test_atomic_requests_do_not_roll_back_counts():
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        statuses = [
            APIClient().post("/api/sign-in/", {"wrong": True}, format="json").status_code
            for _ in range(7)
        ]
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    assert statuses == [400] * 5 + [429] * 2


def test_expired_counts_are_deleted(db, monkeypatch):
    from myometrics_core.rate_limits.models import CountedRequest
    from myometrics_core.rate_limits.storage import DatabaseStorage

    CountedRequest.objects.create(key="old", counted_at=1.0, expires_at=2.0)
    storage = DatabaseStorage("database://")
    storage.acquire_entry("first", 1, 60)
    assert CountedRequest.objects.filter(key="old").exists()
    monkeypatch.setattr("myometrics_core.rate_limits.storage.PURGE_INTERVAL", 1)
    storage.acquire_entry("second", 1, 60)
    assert not CountedRequest.objects.filter(key="old").exists()


def test_counts_can_be_reset(db):
    limiter = RateLimiter()
    assert [limiter.hit(RATE, "s", "k").allowed for _ in range(6)].count(True) == 5
    limiter.reset()
    assert limiter.hit(RATE, "s", "k").allowed
    assert rate_limiter.hit(RATE, "other", "k").allowed


def test_database_storage_counts_single_requests_only(db):
    from myometrics_core.rate_limits.models import CountedRequest

    limiter = MovingWindowRateLimiter(storage_for("database://"))
    with pytest.raises(ValueError, match="one by one"):
        limiter.hit(RATE, "s", "k", cost=3)
    assert not CountedRequest.objects.exists()
