"""The site on every kind of broker and Redis: mail and exports arrive, nothing is lost, no secret
is shown, and log lines are in UTC with the id of their request.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from load import upload
from running_site import ADMIN, PASSWORD, PROJECT, RunningSite
from test_doctor import run_doctor

from myometrics_core.redis_urls import redis_pool
from myometrics_testing.services import OwnedServer
from myometrics_testing.services.brokers import PASSWORD as SECRET
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.any_database

KINDS = ["redis-socket", "redis-tls", "redis-sentinel", "rabbitmq"]
ELSEWHERE = {"TZ": "America/New_York"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A migrated database with an administrator, to be copied."""
    folder = tmp_path_factory.mktemp("prepared")
    site = RunningSite(folder, f"sqlite:///{folder / 'site.sqlite3'}", None)
    site.manage("migrate", "--verbosity=0")
    site.make_administrator()
    site.stop()
    return site


@pytest.fixture(scope="module", params=KINDS)
def server(request):
    with OwnedServer(request.param) as running:
        yield running


@pytest.fixture(scope="module")
def site(prepared, server, tmp_path_factory):
    folder = tmp_path_factory.mktemp(server.kind)
    shutil.copy(prepared.folder / "site.sqlite3", folder)
    is_redis = server.kind.startswith("redis")
    site = RunningSite(
        folder, f"sqlite:///{folder / 'site.sqlite3'}", server.url if is_redis else None
    )
    site.environment |= {
        **ELSEWHERE,
        "SECRET_KEY": prepared.environment["SECRET_KEY"],
        "CELERY_BROKER_URL": "" if is_redis else server.url,
        "RATE_LIMIT_AUTH": "1000/minute",
        "WEB_CONCURRENCY": "1",
        "GUNICORN_CMD_ARGS": "--access-logfile -",
    }
    try:
        for name in ("web", "worker"):
            site.run(name)
        site.wait_until_ready()
        yield site
        assert SECRET not in site.log
        assert quote(SECRET, safe="") not in site.log
    finally:
        site.stop()


@pytest.fixture(scope="module")
def access(site):
    token = site.sign_in()
    answer = site.ask(token, "PATCH", "/users/me/notifications/", {"email_notifications": True})
    assert answer.status_code == 200
    return token


def report_upload(site, access, number):
    answer = site.ask(access, "POST", "/audit-logs/", upload(number))
    assert answer.status_code == 201
    return answer.headers["X-Request-ID"]


def stop_worker(site):
    site.processes["worker"].terminate()
    assert site.processes["worker"].wait(timeout=PATIENCE) == 0


def call_sweep(site):
    """Send the periodic task, as beat does."""
    subprocess.run(
        [Path(sys.executable).parent / "celery", "-A", "config", "call", "myometrics_notifications.sweep"],
        cwd=PROJECT,
        env=site.environment,
        check=True,
        capture_output=True,
    )


def services_of(site, access):
    return site.ask(access, "GET", "/health/").json()["services"]


def test_mail_and_export_arrive_and_a_restarted_worker_goes_on(site, access):
    report_upload(site, access, 1)
    site.mail_to(ADMIN, 1)
    answer = site.ask(access, "GET", "/users/me/export/?format=json&delivery=email")
    assert answer.status_code == 202
    assert any("/exports/" in text for text in site.mail_to(ADMIN, 2))
    stop_worker(site)
    report_upload(site, access, 2)
    site.run("worker")
    site.mail_to(ADMIN, 3)


def test_health_and_doctor_show_the_broker(site, access, server):
    services = wait_for(
        lambda: (found := services_of(site, access)) and "down" not in found.values() and found
    )
    code, found = run_doctor(site.environment)
    assert SECRET not in json.dumps(found)
    kinds = {
        "redis-socket": "Redis on a Unix socket",
        "redis-tls": "Redis",
        "redis-sentinel": "Redis by Sentinel",
        "rabbitmq": "RabbitMQ",
    }
    assert found["celery broker"]["summary"] == f"Answers ({kinds[server.kind]})."
    for name in ("celery broker", "celery worker", "rate limits", "caches", "sessions"):
        assert found[name]["state"] == "ok", found[name]
    if server.kind == "rabbitmq":
        assert services["broker"] == found["broker"]["state"].replace("ok", "up") == "up"
        assert services["redis"] == "not_configured"
    else:
        assert services["redis"] == "up"
        assert "broker" not in services
        assert found["redis"]["state"] == "ok"


def test_lines_are_in_utc_and_name_their_request(site, access):
    mails = len(site.mails_to(ADMIN))
    request_id = report_upload(site, access, 3)
    site.mail_to(ADMIN, mails + 1)

    def loggers():
        lines = [json.loads(line) for line in site.log.splitlines() if line.startswith("{")]
        return {line["logger"] for line in lines if line["request_id"] == request_id}

    expected = {"gunicorn.access", "myometrics.access", "celery.worker.strategy", "celery.app.trace"}
    wait_for(lambda: loggers() >= expected, log=lambda: site.log)
    now = datetime.now(timezone.utc)
    for line in site.log.splitlines():
        if line.startswith("{"):
            when = datetime.fromisoformat(json.loads(line)["logged_at"])
            assert when.utcoffset() == timedelta(0)
            assert now - timedelta(hours=1) < when <= now + timedelta(minutes=1)


def test_values_in_redis_are_no_pickles(site, server):
    if server.kind == "rabbitmq":
        return  # its site has no Redis
    with httpx.Client(base_url=site.url, timeout=PATIENCE) as browser:
        browser.get("/admin/login/")
        form = {
            "username": ADMIN,
            "password": PASSWORD,
            "csrfmiddlewaretoken": browser.cookies["csrftoken"],
        }
        assert browser.post("/admin/login/", data=form).status_code == 302
        assert browser.get("/admin/").status_code == 200
    from redis import Redis

    client = Redis(connection_pool=redis_pool(server.url))
    values = [client.get(key) for key in client.keys("json:*")]
    assert any("_auth_user_id" in json.loads(value) for value in values)


def test_primary_that_sentinel_replaces_is_followed(site, access, server):
    if server.kind != "redis-sentinel":
        return
    mails = len(site.mails_to(ADMIN))
    server.fail_over()
    wait_for(lambda: services_of(site, access)["redis"] == "down")
    wait_for(lambda: services_of(site, access)["redis"] == "up")
    report_upload(site, access, 4)
    site.mail_to(ADMIN, mails + 1)


def test_work_that_found_no_broker_is_done_later(site, access, server):
    if server.kind != "rabbitmq":
        return  # of Redis, test_faults asserts it
    mails = len(site.mails_to(ADMIN))
    server.stop()
    report_upload(site, access, 5)
    answer = site.ask(access, "GET", "/users/me/export/?format=csv&delivery=email")
    assert answer.status_code == 202
    wait_for(lambda: services_of(site, access)["broker"] == "down")
    code, found = run_doctor(site.environment)
    assert code == 1
    assert found["celery broker"]["state"] == found["broker"]["state"] == "problem"
    server.start()
    call_sweep(site)
    site.mail_to(ADMIN, mails + 1)
