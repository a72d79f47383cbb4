"""The site on every kind of broker and Redis: mail and exports arrive, nothing is lost, no secret
is shown, and log lines are in UTC with the id of their request.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from load import upload
from redis import Redis
from running_site import ADMIN, PASSWORD, PROJECT, RunningSite
from test_doctor import run_doctor

from config.optional.brokers import broker_settings
from myometrics_core.conf import redis_pool
from myometrics_testing.services import OwnedServer
from myometrics_testing.services.brokers import PASSWORD as SECRET
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.long

ELSEWHERE = {"TZ": "America/New_York"}
REDIS_AND_BROKER = [
    pytest.param(("redis-tls", "redis-socket"), marks=pytest.mark.program("redis-server")),
    pytest.param(("redis-sentinel", None), marks=pytest.mark.program("redis-server")),
    pytest.param((None, "rabbitmq"), marks=pytest.mark.program("rabbitmq-server")),
]
"""What ``REDIS_URL`` and ``CELERY_BROKER_URL`` name; without the latter the former is both."""
BROKERS = {
    "redis-socket": "Redis on a Unix socket",
    "redis-sentinel": "Redis by Sentinel",
    "rabbitmq": "RabbitMQ",
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A migrated database with an administrator, to be copied."""
    folder = tmp_path_factory.mktemp("prepared")
    site = RunningSite(folder, f"sqlite:///{folder / 'site.sqlite3'}", None)
    site.manage("migrate", "--verbosity=0")
    site.make_administrator()
    site.stop()
    return site


@pytest.fixture(scope="module", params=REDIS_AND_BROKER, ids=lambda kinds: kinds[1] or kinds[0])
def servers(request):
    """Redis and the broker: two servers, one for both, or no Redis."""
    redis, broker = request.param
    with ExitStack() as stack:
        started = {kind: stack.enter_context(OwnedServer(kind)) for kind in (redis, broker) if kind}
        yield started.get(redis), started.get(broker)


@pytest.fixture(scope="module")
def broker(servers):
    return servers[1] or servers[0]


@pytest.fixture(scope="module")
def site(prepared, servers, tmp_path_factory):
    """A web server in another time zone, without a worker."""
    redis, broker = servers
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(prepared.folder / "site.sqlite3", folder)
    url = f"sqlite:///{folder / 'site.sqlite3'}"
    site = RunningSite(folder, url, redis.url if redis else None)
    site.environment |= {
        **ELSEWHERE,
        "SECRET_KEY": prepared.environment["SECRET_KEY"],
        "CELERY_BROKER_URL": broker.url if broker else "",
        "RATE_LIMIT_AUTH": "1000/minute",
        # Tests ask for the health until it changes.
        "RATE_LIMIT_API": "100000/minute",
        "WEB_CONCURRENCY": "1",
        "GUNICORN_CMD_ARGS": "--access-logfile -",
        "WEB_WORKER_CLASS": "gthread" if redis else "uvicorn_worker.UvicornWorker",
        "METRICS_NETWORKS": "127.0.0.1,::1",
    }
    try:
        site.run("web")
        site.wait_until_ready()
        yield site
        assert SECRET not in site.log
        assert quote(SECRET, safe="") not in site.log
    finally:
        site.stop()


@pytest.fixture(scope="module")
def access(site):
    token = site.sign_in()
    answer = site.request(token, "PATCH", "/users/me/notifications/", {"email_notifications": True})
    assert answer.status_code == 200
    return token


@pytest.fixture
def worker(site):
    """A worker, unless one runs already."""
    if "worker" not in site.processes:
        site.run("worker")
        wait_for(lambda: re.search(r"celery@\S+ ready", site.log), log=lambda: site.log)


def report_upload(site, access, number):
    answer = site.request(access, "POST", "/audit-logs/", upload(number))
    assert answer.status_code == 201
    return answer.headers["X-Request-ID"]


def look_for_jobs(site):
    """Send the periodic task, as beat does."""
    subprocess.run(
        [
            Path(sys.executable).parent / "celery",
            "-A",
            "config",
            "call",
            "myometrics_core.run_jobs",
        ],
        cwd=PROJECT,
        env=site.environment,
        check=True,
        capture_output=True,
    )


def services_of(site, access):
    return site.request(access, "GET", "/health/").json()["services"]


def test_mail_and_export_arrive_even_if_worker_starts_late(site, access):
    request_id = report_upload(site, access, 1)
    assert (
        float(site.get("/metrics").text.partition("\nmyometrics_queued_tasks ")[2].split()[0]) >= 1
    )
    site.run("worker")
    site.mail_to(ADMIN, 1)
    answer = site.request(access, "GET", "/users/me/export/?format=json&delivery=email")
    assert answer.status_code == 202
    assert any("/exports/" in text for text in site.mail_to(ADMIN, 2))
    assert request_id in site.log


def test_restarted_worker_continues(site, access, broker, worker):
    if broker.kind != "rabbitmq":
        return  # of Redis, test_faults asserts it
    mails = len(site.mails_to(ADMIN))
    site.processes["worker"].terminate()
    assert site.processes["worker"].wait(timeout=PATIENCE) == 0
    report_upload(site, access, 2)
    site.run("worker")
    site.mail_to(ADMIN, mails + 1)


def test_health_and_doctor_show_broker(site, access, servers, broker, worker):
    def services_up():
        found = services_of(site, access)
        return found if "down" not in found.values() else None

    def diagnoses_with_worker():
        _, found = run_doctor(site.environment)
        return found if found["celery worker"]["state"] == "ok" else None

    services = wait_for(services_up)
    found = wait_for(diagnoses_with_worker, log=lambda: site.log)
    assert SECRET not in json.dumps(found)
    assert found["celery broker"]["summary"] == f"Reachable ({BROKERS[broker.kind]})."
    for name in ("celery broker", "celery worker", "rate limits", "caches", "sessions"):
        assert found[name]["state"] == "ok", found[name]
    redis, separate_broker = servers
    assert services["redis"] == ("up" if redis else "not_configured")
    assert services.get("broker") == ("up" if separate_broker else None)
    assert ("broker" in found) is bool(separate_broker)


def test_log_lines_are_in_utc_with_request_id(site, access, worker):
    mails = len(site.mails_to(ADMIN))
    request_id = report_upload(site, access, 3)
    site.mail_to(ADMIN, mails + 1)

    def loggers():
        lines = [json.loads(line) for line in site.log.splitlines() if line.startswith("{")]
        return {line["logger"] for line in lines if line["request_id"] == request_id}

    expected = {"myometrics.access", "celery.worker.strategy", "celery.app.trace"}
    if site.environment["WEB_WORKER_CLASS"] == "gthread":
        expected.add("gunicorn.access")
    else:
        assert '"logger": "uvicorn.error"' in site.log
        assert '"logger": "uvicorn.access"' not in site.log
    wait_for(lambda: loggers() >= expected, log=lambda: site.log)
    now = datetime.now(timezone.utc)
    for line in site.log.splitlines():
        if line.startswith("{"):
            when = datetime.fromisoformat(json.loads(line)["logged_at"])
            assert when.utcoffset() == timedelta(0)
            assert now - timedelta(hours=1) < when <= now + timedelta(minutes=1)


def test_values_in_redis_are_not_pickled(site, servers):
    redis, _ = servers
    if redis is None:
        return
    with httpx.Client(base_url=site.url, timeout=PATIENCE) as browser:
        browser.get("/admin/login/")
        form = {
            "username": ADMIN,
            "password": PASSWORD,
            "csrfmiddlewaretoken": browser.cookies["csrftoken"],
        }
        assert browser.post("/admin/login/", data=form).status_code == 302
        assert browser.get("/admin/").status_code == 200
    client = Redis(connection_pool=redis_pool(redis.url))
    values = [json.loads(client.get(key)) for key in client.keys("json:*")]
    assert any("_auth_user_id" in value for value in values)


def test_new_primary_of_sentinel_is_used(site, access, broker, worker):
    if broker.kind != "redis-sentinel":
        return
    mails = len(site.mails_to(ADMIN))
    broker.fail_over()
    wait_for(lambda: services_of(site, access)["redis"] == "down")
    wait_for(lambda: services_of(site, access)["redis"] == "up")
    report_upload(site, access, 4)
    site.mail_to(ADMIN, mails + 1)


def test_jobs_enqueued_without_broker_run_later(site, access, broker, worker):
    if broker.kind != "rabbitmq":
        return  # of Redis, test_faults asserts it
    mails = len(site.mails_to(ADMIN))
    broker.stop()
    report_upload(site, access, 5)
    answer = site.request(access, "GET", "/users/me/export/?format=csv&delivery=email")
    assert answer.status_code == 202
    wait_for(lambda: services_of(site, access)["broker"] == "down")
    code, found = run_doctor(site.environment)
    assert code == 1
    assert found["celery broker"]["state"] == found["broker"]["state"] == "problem"
    # The task is sent over TLS, to the same queue.
    broker.start()
    site.environment["CELERY_BROKER_URL"] = broker.tls_url
    look_for_jobs(site)
    site.mail_to(ADMIN, mails + 1)


@pytest.mark.program("redis-server")
@pytest.mark.parametrize("kind", ["redis-tls", "redis-sentinel-tls"])
def test_redis_with_tls_works_as_broker(kind):
    with OwnedServer(kind) as server, broker_connection(server.url) as link:
        queue = link.SimpleQueue("tls")
        queue.put({"number": 1})
        assert queue.get(timeout=PATIENCE).payload == {"number": 1}
        # The certificate is verified.
        untrusted = broker_connection(re.sub("ssl_ca_certs=[^&]*", "", server.url))
        with untrusted, pytest.raises(OperationalError):
            untrusted.ensure_connection(max_retries=1, interval_start=0)


def broker_connection(url):
    app = Celery("tls", set_as_current=False)
    app.config_from_object(broker_settings(url), namespace="CELERY")
    return app.connection_for_write()
