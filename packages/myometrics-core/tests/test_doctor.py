"""The doctor: registry of examinations, and the command that runs them."""

from __future__ import annotations

import io
import json
import threading
from datetime import timedelta

import dj_database_url
import psycopg
import pytest
import time_machine
from django.core.management import call_command
from django.db import ConnectionHandler, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import RequestFactory

from myometrics_core.api import ApiView
from myometrics_core.db import replicas
from myometrics_core.doctor import Diagnosis, describe_age, examinations, register_examination
from myometrics_core.doctor import registry as doctor
from myometrics_core.doctor.registry import run_examinations
from myometrics_core.health_log.models import HealthState
from myometrics_core.jobs import Job
from myometrics_core.times import utc_now
from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import PATIENCE, wait_for


@pytest.fixture(autouse=True)
def _long_deadlines(monkeypatch):
    monkeypatch.setattr(doctor, "MAX_SECONDS", PATIENCE)
    monkeypatch.setattr(doctor, "CONNECT_SECONDS", PATIENCE)


@pytest.fixture
def no_examinations(monkeypatch):
    """Run only the examinations that the test registers."""
    monkeypatch.setattr(doctor, "_examinations", {})


def run_doctor(*arguments):
    out, code = io.StringIO(), 0
    try:
        call_command("myometrics_doctor", *arguments, stdout=out, no_color=True)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, out.getvalue()


def test_doctor_prints_diagnosis_and_advice(no_examinations):
    register_examination("mail", lambda: [Diagnosis("mail", "warning", "No server.", "Set one.")])
    code, out = run_doctor()
    assert code == 0
    assert "warning: mail: No server.\n    Set one.\n" in out
    assert out.endswith("0 problems, 1 warnings, 0 ok, 0 not configured.\n")


def test_doctor_exits_with_1_for_a_problem(no_examinations):
    register_examination("mail", lambda: [Diagnosis("mail", "problem", "Down.", "Start it.")])
    assert run_doctor()[0] == 1
    assert run_doctor("--json")[0] == 1


def test_doctor_prints_json(no_examinations):
    register_examination("mail", lambda: [Diagnosis("mail", "ok", "Up.")])
    assert json.loads(run_doctor("--json")[1]) == {
        "problems": 0,
        "diagnoses": [{"name": "mail", "state": "ok", "summary": "Up.", "advice": ""}],
    }


def test_examination_that_raises_is_a_problem_without_its_message(no_examinations):
    def examine():
        raise ValueError("redis://:secret@host")

    register_examination("keys", examine)
    register_examination("mail", lambda: [Diagnosis("mail", "ok", "Up.")])
    code, out = run_doctor()
    assert code == 1
    assert "problem: keys: Could not be examined (ValueError)." in out
    assert "ok: mail: Up." in out
    assert "secret" not in out


def test_examination_that_hangs_is_a_problem(no_examinations, monkeypatch):
    monkeypatch.setattr(doctor, "MAX_SECONDS", 0.05)
    ends = threading.Event()
    register_examination("keys", lambda: ends.wait(20) and [])
    assert [found.state for found in run_examinations()] == ["problem"]
    ends.set()


def test_examination_registered_again_is_replaced(no_examinations):
    register_examination("keys", lambda: [Diagnosis("keys", "ok", "Old.")])
    register_examination("keys", lambda: [Diagnosis("keys", "ok", "New.")])
    assert [found.summary for found in run_examinations()] == ["New."]


def test_covered_check_is_not_repeated(no_examinations, settings):
    settings.DEBUG, settings.MYOMETRICS = False, MEMORY
    examine = examinations.examine_checks
    assert "myometrics_core.W010" in {found.name for found in examine()}
    register_examination("limits", list, covers=["myometrics_core.W010"])
    assert "myometrics_core.W010" not in {found.name for found in examine()}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 seconds"), (1.9, "1 second"), (60, "1 minute"), (7300, "2 hours"), (1e6, "11 days")],
)
def test_age_is_shown_in_its_largest_unit(seconds, text):
    assert describe_age(seconds) == text


MEMORY = {"RATE_LIMIT_STORAGE": "memory://"}
REDIS_CACHE = "django.core.cache.backends.redis.RedisCache"
SMTP = "django.core.mail.backends.smtp.EmailBackend"
# Settings, examination, name, state, and words of the summary.
CELERY = {"JOB_RUNNER": "celery"}
CASES = [
    ({"DEBUG": True}, "checks", "security.W018", "warning", "DEBUG set to True"),
    ({"ALLOWED_HOSTS": ["*"]}, "hosts", "hosts", "warning", "any host"),
    ({"ALLOWED_HOSTS": []}, "checks", "security.W020", "problem", "must not be empty"),
    ({"ALLOWED_HOSTS": ["a.example"]}, "hosts", "hosts", "ok", "1 hosts"),
    ({"SECRET_KEY": "short"}, "checks", "security.W009", "problem", "SECRET_KEY"),
    ({"SECRET_KEY": "short", "DEBUG": True}, "checks", "security.W009", "warning", "SECRET_KEY"),
    ({"SECRET_KEY_FALLBACKS": ["x"]}, "checks", "security.W025", "problem", "FALLBACKS"),
    ({"SECURE_HSTS_SECONDS": 0}, "checks", "security.W004", "warning", "SECURE_HSTS_SECONDS"),
    ({"SESSION_COOKIE_SECURE": False}, "checks", "security.W012", "warning", "COOKIE"),
    ({"MYOMETRICS": {"HEALTH_MAX_AGE": "x"}}, "checks", "myometrics_core.E003", "problem", "must"),
    ({"EMAIL_BACKEND": SMTP}, "mail", "mail sender", "warning", "placeholder domain"),
    ({"EMAIL_BACKEND": SMTP, "DEFAULT_FROM_EMAIL": "A <a@b.org>"}, "mail", "mail sender", "ok", ""),
    ({"DEBUG": False}, "mail", "mail backend", "warning", "not leave"),
    ({"DEBUG": True}, "mail", "mail backend", "not configured", "not leave"),
    ({"MYOMETRICS": MEMORY}, "rate_limits", "rate limits", "problem", "each process"),
    (
        {"MYOMETRICS": MEMORY, "DEBUG": True},
        "rate_limits",
        "rate limits",
        "warning",
        "each process",
    ),
    (
        {"MYOMETRICS": {"RATE_LIMIT_STORAGE": "redis://:hunter2@127.0.0.1:1/0"}},
        *("rate_limits", "rate limits", "problem", "can't be reached"),
    ),
    ({}, "caches", "caches", "ok", ""),
    (
        {"CACHES": {"default": {"BACKEND": REDIS_CACHE, "LOCATION": "redis://127.0.0.1:1/0"}}},
        *("caches", "cache default", "warning", "pickles"),
    ),
    (
        {
            "CACHES": {
                "default": {
                    "BACKEND": REDIS_CACHE,
                    "LOCATION": ["redis://cache.example:6379/0"],
                    "OPTIONS": {"serializer": "json"},
                }
            }
        },
        *("caches", "cache default", "warning", "without a password"),
    ),
    (
        {"SESSION_ENGINE": "django.contrib.sessions.backends.cache"},
        *("caches", "sessions", "problem", "memory of each process"),
    ),
    ({}, "caches", "sessions", "ok", "db"),
    ({"MIDDLEWARE": []}, "middleware", "access log", "not configured", "not in MIDDLEWARE"),
    (
        {"MIDDLEWARE": ["a.B", examinations.ACCESS_LOG]},
        *("middleware", "access log", "warning", "not first"),
    ),
    ({"MIDDLEWARE": [examinations.ACCESS_LOG]}, "middleware", "access log", "ok", "first"),
    ({}, "middleware", "per-site cache", "ok", "No cache middleware"),
    ({}, "proxies", "proxies", "not configured", "the peer is the client"),
    ({"MYOMETRICS": {"TRUSTED_PROXIES": ["10.0.0.0/8"]}}, "proxies", "proxies", "ok", "1 trusted"),
    ({"MYOMETRICS": {"TRUSTED_PROXIES": ["unix:"]}}, "proxies", "proxies", "ok", "1 trusted"),
    ({"MYOMETRICS": {"TRUSTED_PROXIES": ["::/0"]}}, "proxies", "proxies", "problem", "chooses"),
    (
        {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")},
        *("proxies", "proxies", "problem", "not trusted"),
    ),
    ({}, "replicas", "replicas", "not configured", "one database"),
    ({}, "backup", "back-up", "not configured", "is not known"),
    (
        {"MYOMETRICS": {"BACKUP_FILE": "/nowhere/done"}},
        *("backup", "back-up", "problem", "There is none"),
    ),
    (
        {"MYOMETRICS": {"READ_REPLICAS": ["replica"]}},
        *("checks", "myometrics_core.E011", "problem", "which is no database"),
    ),
    ({}, "celery", "celery", "not configured", "JOB_RUNNER = 'thread'"),
    ({"MYOMETRICS": CELERY}, "celery", "celery", "not configured", "No broker"),
]


@pytest.mark.parametrize(("changes", "examination", "name", "state", "words"), CASES)
def test_examination_reports_the_problem(
    settings, monkeypatch, changes, examination, name, state, words
):
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    settings.MYOMETRICS = {}
    settings.DEBUG = False
    for setting, value in changes.items():
        setattr(settings, setting, value)
    diagnoses = list(getattr(examinations, f"examine_{examination}")())
    found = [one for one in diagnoses if (one.name, one.state) == (name, state)]
    assert any(words in one.summary for one in found), diagnoses
    assert state in {"ok", "not configured"} or all(one.advice for one in found)
    assert "hunter2" not in str(diagnoses)


def test_rate_limits_in_memory_are_ok_with_one_process(settings, monkeypatch):
    settings.MYOMETRICS = MEMORY
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    assert [one.state for one in examinations.examine_rate_limits()] == ["ok"]
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    assert "4 processes" in next(iter(examinations.examine_rate_limits())).summary


def test_forwarded_allow_ips_is_a_warning(settings, monkeypatch):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    assert "forwarded addresses" in {one.name for one in examinations.examine_proxies()}
    monkeypatch.delenv("FORWARDED_ALLOW_IPS")
    assert "forwarded addresses" not in {one.name for one in examinations.examine_proxies()}


def test_per_site_cache_is_a_problem_without_private_responses(settings, monkeypatch):
    settings.MIDDLEWARE = ["django.middleware.cache.UpdateCacheMiddleware"]
    answered = ApiView.as_view()(RequestFactory().get("/"))["Cache-Control"]
    expected = "ok" if "private" in answered else "problem"
    found = {one.name: one.state for one in examinations.examine_middleware()}
    assert found["per-site cache"] == expected


def test_diagnosis_of_check_hides_secrets_and_addresses():
    assert examinations._line("redis://:pw@host/0 and ada@clinic.example\nmore") == ("… and … more")


@pytest.mark.django_db(transaction=True)
def test_database_and_migrations_are_ok():
    found = {one.name: one for one in run_examinations()}
    assert found["database"].state in {"ok", "warning"}  # SQLite outside of DEBUG is a warning
    assert found["migrations"].state == "ok"


@pytest.mark.any_database
@pytest.mark.program("pgbouncer")
def test_transaction_pooler_is_a_warning_while_cursors_stay_open(
    postgresql_server, monkeypatch, django_db_blocker
):
    def examine(url, **options):
        handler = ConnectionHandler({"default": {**dj_database_url.parse(url), **options}})
        monkeypatch.setattr(examinations, "connections", handler)
        monkeypatch.setattr(examinations, "connection", handler["default"])
        with django_db_blocker.unblock():
            found = list(examinations.examine_database())
            handler.close_all()
        return [one.state for one in found if one.name == "connection pooler"]

    assert examine(postgresql_server.url) == []
    with OwnedServer("pgbouncer", postgresql_server.url, "", "session") as pooler:
        assert examine(pooler.url) == []
    with OwnedServer("pgbouncer", postgresql_server.url) as pooler:
        assert examine(pooler.url) == ["warning"]
        assert examine(pooler.url, DISABLE_SERVER_SIDE_CURSORS=True) == ["ok"]


@pytest.mark.django_db(transaction=True)
def test_unapplied_migration_is_a_problem():
    MigrationRecorder(connection).migration_qs.filter(app="sessions").delete()
    try:
        (found,) = examinations.examine_migrations()
    finally:
        MigrationRecorder(connection).record_applied("sessions", "0001_initial")
    assert (found.state, found.summary) == (
        "problem",
        "1 migrations are not applied, of: sessions.",
    )


@pytest.mark.any_database
def test_service_that_is_down_is_a_problem(settings):
    settings.MYOMETRICS = {
        "REDIS_URL": "redis://:hunter2@127.0.0.1:1/0",
        "MICROSERVICE_URL": "http://127.0.0.1:1",
    }
    found = {one.name: one.state for one in examinations.examine_services()}
    assert found["redis"] == found["microservice"] == "problem"
    settings.MYOMETRICS = {}
    found = {one.name: one.state for one in examinations.examine_services()}
    assert found["redis"] == found["microservice"] == "not configured"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("age", "state", "words"),
    [(None, "warning", "never run"), (30, "ok", "30 seconds"), (3600, "problem", "1 hour")],
)
def test_age_of_health_check_decides_on_periodic_tasks(age, state, words):
    with time_machine.travel(utc_now(), tick=False):
        if age is not None:
            HealthState.objects.create(checked_at=utc_now() - timedelta(seconds=age))
        (found,) = examinations.examine_health_log()
    assert (found.name, found.state) == ("periodic tasks", state)
    assert words in found.summary


@pytest.mark.any_database
def test_lagging_or_unreachable_replica_is_a_problem(
    settings, postgresql_server, django_db_blocker, monkeypatch
):
    settings.MYOMETRICS = {"READ_REPLICAS": ["replica"], "REPLICA_LAG": 0.05}
    with OwnedServer("postgresql-replica", postgresql_server.url) as server:
        urls = {"default": postgresql_server.url, "replica": server.url}
        replica = ConnectionHandler(
            {name: dj_database_url.parse(url) for name, url in urls.items()}
        )
        monkeypatch.setattr(examinations, "connections", replica)
        monkeypatch.setattr(replicas, "connections", replica)

        def examine():
            return next(one for one in examinations.examine_replicas() if "replica r" in one.name)

        with django_db_blocker.unblock(), psycopg.connect(postgresql_server.url) as primary:
            primary.autocommit = True
            wait_for(lambda: examine().state == "ok")
            with replica["replica"].cursor() as cursor:
                cursor.execute("SELECT pg_wal_replay_pause()")
            primary.execute("CREATE TABLE later ()")
            wait_for(lambda: examine().state == "problem")
            assert "REPLICA_LAG allows 0.05 s" in examine().summary
            replica.close_all()
            server.stop()
            assert "Can't be reached" in examine().summary
            replica.settings["replica"].update(dj_database_url.parse(postgresql_server.url))
            assert "no replica" in examine().summary


@pytest.mark.django_db
def test_doctor_names_jobs_of_removed_apps_apart_from_late_ones():
    Job.objects.create(kind="tests.removed", run_at=utc_now() - timedelta(days=40))
    found = {one.name: one.state for one in examinations.examine_jobs()}
    assert found == {"jobs": "ok", "jobs of removed apps": "warning"}
