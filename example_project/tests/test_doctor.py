"""The doctor on the composed site: healthy, with one server missing, and with all problems."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
from typing import Any

import psycopg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from fresh_process import manage
from running_site import PROJECT, RunningSite

from myometrics_testing.services import OwnedServer, free_port
from myometrics_testing.waiting import wait_for

pytestmark = pytest.mark.any_database

NOT_DECIDED_HERE = {
    *("second factor", "administrators' second factor", "admin sign-in"),  # a choice of the site
    *("audit verification", "rollup self-check"),  # never yet run on a new site
    *("myometrics_auth.W034", "myometrics_notifications.W011"),  # no API_URL
    *("security.W004", "security.W008"),
    *("security.W012", "security.W016"),
}
"""Warnings that are normal on a new site."""


@pytest.fixture(scope="module")
def postgresql():
    with OwnedServer("postgresql") as server:
        yield server


@pytest.fixture(scope="module")
def redis():
    with OwnedServer("redis") as server:
        yield server


@pytest.fixture(scope="module")
def site(tmp_path_factory, postgresql, redis):
    """A worker, beat and their servers, without a web server."""
    mail = Controller(Sink(), hostname="127.0.0.1", port=free_port())
    mail.start()
    running = RunningSite(tmp_path_factory.mktemp("site"), postgresql.url, redis.url)
    running.environment |= {
        "AUDIT_KEYS": f"first:{secrets.token_hex(32)}",
        "EMAIL_BACKEND": "",
        "EMAIL_HOST": "127.0.0.1",
        "EMAIL_PORT": str(mail.port),
        "DEFAULT_FROM_EMAIL": "noreply@clinic.invalid",
    }
    try:
        running.manage("migrate", "--verbosity=0")
        running.make_administrator()
        for name in ("worker", "beat"):
            running.run(name)
        yield running
    finally:
        running.stop()
        mail.stop()


def run_doctor(environment):
    """The exit code, and the diagnoses by name."""
    done = subprocess.run(
        [sys.executable, "manage.py", "myometrics_doctor", "--json"],
        cwd=PROJECT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    found: dict[str, Any] = {}
    for one in json.loads(done.stdout)["diagnoses"]:
        found.setdefault(one["name"], one)
    return done.returncode, found


def names(found, state):
    return {name for name, one in found.items() if one["state"] == state}


@pytest.fixture
def silent_port():
    """A port that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_healthy_site_has_no_problem(site):
    def is_well():
        code, found = run_doctor(site.environment)
        return found if code == 0 and found["periodic tasks"]["state"] == "ok" else {}

    found = wait_for(is_well, log=lambda: str(run_doctor(site.environment)))
    assert names(found, "warning") <= NOT_DECIDED_HERE
    assert names(found, "ok") >= {
        *("database", "migrations", "redis", "email", "celery broker", "celery worker"),
        *("rate limits", "audit guards", "audit keys", "audit seals", "rollups", "jobs"),
        *("export storage", "hosts", "access log", "periodic tasks", "administrators"),
    }


def test_stopped_redis_is_reported(site, redis):
    redis.stop()
    try:
        code, found = run_doctor(site.environment)
    finally:
        redis.start()
    assert code == 1
    assert names(found, "problem") == {"redis", "celery broker", "rate limits"}


@pytest.mark.parametrize("fault", ["stop", "freeze"])
def test_missing_database_is_reported(site, postgresql, fault):
    getattr(postgresql, fault)()
    try:
        code, found = run_doctor(site.environment)
    finally:
        {"stop": postgresql.start, "freeze": postgresql.thaw}[fault]()
    assert code == 1
    assert found["database"]["state"] == "problem"
    assert found["audit guards"]["summary"].startswith("Not examined")
    assert found["redis"]["state"] == "ok"


def test_silent_mail_server_is_reported(site, silent_port):
    code, found = run_doctor(site.environment | {"EMAIL_PORT": str(silent_port)})
    assert code == 1
    assert found["email"]["state"] == "problem"


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql"])
def test_all_problems_are_reported_at_once(tmp_path, postgresql, silent_port, vendor):
    if vendor == "sqlite":
        url = f"sqlite:///{tmp_path / 'site.sqlite3'}"
    else:
        url = f"{postgresql.url.rpartition('/')[0]}/broken"
        with psycopg.connect(postgresql.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE broken")
    broken = {
        "DATABASE_URL": url,
        "DATA_DIR": str(tmp_path),
        "SECRET_KEY": "hunter2" + "x" * 20,
        "DEBUG": "false",
    }
    assert manage(broken, "migrate", "--verbosity=0").returncode == 0
    assert manage(broken, "shell", "-c", BREAK).returncode == 0
    broken |= {
        "REDIS_URL": "redis://:hunter2@127.0.0.1:1/0",
        "MICROSERVICE_URL": "http://127.0.0.1:1",
        "EMAIL_HOST": "127.0.0.1",
        "EMAIL_PORT": str(silent_port),
        "TRUSTED_PROXIES": "0.0.0.0/0",
    }
    code, found = run_doctor(broken)
    assert code == 1
    assert names(found, "problem") == {
        *("security.W009", "migrations", "redis", "email", "microservice", "celery broker"),
        *("rate limits", "proxies", "periodic tasks", "audit guards", "audit seals"),
        *("audit verification", "rollups", "upload source", "jobs", "export storage"),
    }
    assert names(found, "warning") >= {
        *("mail sender", "administrators", "staff", "second factor"),
        *("administrators' second factor", "dead jobs", "audit keys"),
        *("security.W008", "security.W012", "security.W016"),
    }
    assert ("database" in names(found, "warning")) is (vendor == "sqlite")


BREAK = """
from datetime import timedelta
from pathlib import Path
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone
from myometrics_analytics.models import PendingChange
from myometrics_audit.log.guards import remove_guards
from myometrics_audit.models import AuditLog, Verification
from myometrics_core.health_log.models import HealthState
from myometrics_core.jobs import Job

before = timezone.now() - timedelta(days=1)
user = get_user_model().objects.create_user(email="tom@clinic.example", is_staff=True)
AuditLog.objects.create(action="a", resource_type="b", resource_id="c", timestamp=before)
Verification.objects.create(started_at=before, finished_at=before, entries=1, problems=1)
PendingChange.objects.create(day=before.date(), status="completed", uploads=1)
Job.objects.create(kind="myometrics_analytics.pull", key="", attempts=3)
HealthState.objects.create(checked_at=before)
for state in ("pending", "dead"):
    Job.objects.create(kind="myometrics_notifications.deliver", state=state, run_at=before)
remove_guards("default")
MigrationRecorder(connection).migration_qs.filter(app="sessions").delete()
Path(settings.MEDIA_ROOT).write_text("no folder")
"""


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["--nonsense"], 2)])
def test_usage_is_explained(arguments, code):
    environment = {"SECRET_KEY": secrets.token_hex(32), "DATABASE_URL": "sqlite:///:memory:"}
    done = manage(environment, "myometrics_doctor", *arguments)
    assert done.returncode == code
    assert "--json" in done.stdout + done.stderr


def test_output_without_terminal_has_no_colours(tmp_path):
    environment = {"SECRET_KEY": secrets.token_hex(32), "DATA_DIR": str(tmp_path), "DEBUG": "1"}
    done = manage(environment, "myometrics_doctor")
    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[-1].endswith("not configured.")
