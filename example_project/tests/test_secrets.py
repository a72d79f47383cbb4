"""Passwords in URLs are never shown, whatever fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fresh_process import GOOD, PROJECT, manage, python
from running_site import unit_commands

from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.any_database

SECRET = "hunter2"
BROKEN = {
    "DATABASE_URL": f"mystery://me:{SECRET}@host/db",
    "REDIS_URL": f"redis://:{SECRET}/x@host:6379/0?password={SECRET}",
    "CELERY_BROKER_URL": f"amqp://me:{SECRET}/x@host",
    "MICROSERVICE_URL": f"http://me:{SECRET}@host:port",
    "DJANGO_API_URL": f"ftp://me:{SECRET}@host/api?token={SECRET}",
    "FRONTEND_URL": f"http://me:{SECRET}@host",
    "CORS_ALLOWED_ORIGINS": f"https://me:{SECRET}@host",
    "CSRF_TRUSTED_ORIGINS": f"https://me:{SECRET}@host/path",
}
UNREACHABLE = {
    **GOOD,
    "SECRET_KEY": "k" * 50,
    "DATABASE_URL": f"postgresql://me:{SECRET}@127.0.0.1:1/site?sslpassword={SECRET}",
    "EMAIL_HOST": "127.0.0.1",
    "EMAIL_PORT": "1",
    "EMAIL_HOST_PASSWORD": SECRET,
    "MICROSERVICE_URL": "http://127.0.0.1:1",
    "METRICS_TOKEN": SECRET,
    "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://me:{SECRET}@127.0.0.1:1",
}
SENTINEL = f"sentinel://:{SECRET}@127.0.0.1:1,[::1]:2/service/0?sentinel_password={SECRET}"
REDIS_URLS = [f"rediss://127.0.0.1:1/0?ssl_cert_reqs=none&password={SECRET}", SENTINEL]
BROKER_URLS = [
    f"unix://:{SECRET}@/nowhere/redis.sock?db=0",
    SENTINEL,
    f"amqps://me:{SECRET}@[::1]:1/v",
]
ASK = """
import django; django.setup()
from django.conf import settings
from django.test import Client
from django.test.utils import override_settings
import logging, traceback
from django.contrib.auth import get_user_model
from myometrics_notifications.kinds import registered_kinds
from myometrics_notifications.unsubscribe_links import unsubscribe_token
from myometrics_core.jobs.runners import start_jobs
from myometrics_core.health import check_health
from myometrics_core.observability.prometheus import queued_tasks
from django.core.cache import cache
from django.db import connection
print(check_health(max_age=0).services)
print(Client(SERVER_NAME="localhost").get("/api/health/").content)
client = Client(SERVER_NAME="localhost", raise_request_exception=False)
token = unsubscribe_token(kind=registered_kinds()[0], user=get_user_model()(pk=1))
print("with a token:", client.post(f"/api/notifications/unsubscribe/?token={token}").status_code)
print("token:", token)
start_jobs("myometrics_notifications.deliver")
for fail in (lambda: cache.get("key"), connection.ensure_connection, queued_tasks):
    try:
        fail()
    except Exception as error:
        logging.getLogger("test").exception("It failed: %r", error, extra={"cause": error.args})
logging.getLogger("test").error(
    "An object", extra={"error": ValueError("redis://me:hunter2@host/0"), "number": 7}
)
with override_settings(DEBUG=True):
    def view(request):
        raise RuntimeError("settings are shown")
    from django.test import RequestFactory
    from django.views.debug import technical_500_response
    request = RequestFactory().get("/", **__import__("os").environ)
    try:
        view(request)
    except RuntimeError:
        import sys
        page = technical_500_response(request, *sys.exc_info()).content.decode()
        assert "CELERY_BROKER_URL" in page
        print(page)
"""


def test_invalid_value_is_named_without_secret():
    done = python("import config.settings", {**GOOD, **BROKEN})
    assert done.returncode != 0
    assert set(re.findall(r"  - (\w+): ", done.stderr)) == set(BROKEN)
    assert SECRET not in done.stdout + done.stderr
    assert "must have no user name or password in it" in done.stderr


@pytest.mark.parametrize("command", [("check", "--deploy"), ("migrate",), ("myometrics_doctor",)])
def test_failing_command_shows_no_secret(command):
    done = manage(
        {**UNREACHABLE, "REDIS_URL": REDIS_URLS[0], "CELERY_BROKER_URL": BROKER_URLS[-1]}, *command
    )
    assert done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("url", REDIS_URLS)
def test_health_logs_and_error_pages_show_no_secret(url):
    done = python(ASK, {**UNREACHABLE, "REDIS_URL": url})
    assert done.returncode == 0, done.stderr
    assert "'redis': 'down'" in done.stdout
    assert done.stderr.count("It failed") == 3
    assert re.search("^with a token: 5..$", done.stdout, re.MULTILINE)
    assert re.findall("^token: (.*)$", done.stdout, re.MULTILINE)[0] not in done.stderr
    assert '"number": 7' in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_worker_without_broker_shows_no_secret(tmp_path):
    program, *arguments = unit_commands()["worker"]
    outputs, processes = [], []
    for number, url in enumerate(BROKER_URLS):
        output = tmp_path / str(number)
        outputs.append(output)
        with output.open("wb") as file:
            processes.append(
                subprocess.Popen(
                    [str(Path(sys.executable).parent / program), *arguments],
                    cwd=PROJECT,
                    env={"PATH": os.environ["PATH"], **UNREACHABLE, "CELERY_BROKER_URL": url},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            )
    try:
        wait_for(lambda: all("Cannot connect to" in output.read_text() for output in outputs))
    finally:
        for process in processes:
            process.kill()
            process.wait(timeout=PATIENCE)
    for output in outputs:
        assert "transport:" in output.read_text()
        assert SECRET not in output.read_text()
