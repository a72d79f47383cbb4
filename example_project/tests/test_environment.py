"""The environment is checked as a whole: errors name the variable and the expected format."""

import json
import re

import pytest
from fresh_process import GOOD, manage, python, shown

from config.optional.brokers import broker_settings, check_broker_url

pytestmark = pytest.mark.any_database

SHOW_MAILER = """
import json, django
django.setup()
from myometrics_core.mail.backend import default_mail_backend
mailer = default_mail_backend()
print(json.dumps({"module": type(mailer).__module__, **vars(mailer)}, default=str))
"""


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("SECRET_KEY", "", "must be set when DEBUG is off"),
        ("SECRET_KEY", "your-secret-key", "is the one from the examples"),
        ("DEBUG", "maybe", "expected true or false, got 'maybe'"),
        ("DATABASE_URL", "nonsense", "expected a URL such as postgresql://"),
        ("DATABASE_URL", "oracle9://x", "expected a URL such as postgresql://"),
        ("REDIS_URL", "localhost:6379", "must be a URL such as redis://host:6379/0"),
        ("REDIS_URL", "unix://run/redis.sock", "the socket's path after three slashes"),
        ("CELERY_BROKER_URL", "sqs://", "must be a URL such as amqp://user:password@host"),
        ("FRONTEND_URL", "http://me:pw@host", "must have no user name or password in it"),
        ("DATABASE_URL", "postgresql://a:x,b:y/name", "expected a URL such as postgresql://"),
        ("REPLICA_URLS", "postgresql://a/x,nonsense", "expected a URL such as postgresql://"),
        ("REPLICA_LAG", "0", "expected a whole number from 1, got '0'"),
        ("EMAIL_PORT", "smtp", "expected a whole number from 0, got 'smtp'"),
        ("EMAIL_PORT", "-1", "expected a whole number from 0"),
        ("MICROSERVICE_URL", "ftp://x", "expected a URL such as http://host:port"),
        ("FRONTEND_URL", "localhost", "expected a URL such as http://host:port"),
        ("CORS_ALLOWED_ORIGINS", "http://a,b", "expected a URL such as http://host:port"),
        ("CORS_ALLOWED_ORIGINS", "http://a/path", "expected origins such as https://host"),
        ("RATE_LIMIT_AUTH", "often", "expected a rate such as 5/minute, got 'often'"),
        ("RATE_LIMIT_API", "5", "expected a rate such as 5/minute"),
        ("RATE_LIMIT_EXPORT", "-2/hour", "expected a rate such as 5/minute"),
        (
            "MFA_REQUIRED_ROLES",
            "admin,root",
            "expected some of admin, doctor, technician, got 'root'",
        ),
        ("JOB_RUNNER", "celery", "expected thread or tasks or none, got 'celery'"),
        ("AUDIT_ON_USER_DELETE", "drop", "expected cascade or retain, got 'drop'"),
        (
            "TRUSTED_PROXIES",
            "10.0.0.0/8,proxy",
            "expected networks such as 10.0.0.0/8,::1 or unix:",
        ),
        ("METRICS_NETWORKS", "unix:", "expected networks such as 10.0.0.0/8,::1, got"),
        ("UPLOADS_PER_USER_PER_DAY", "0", "expected a whole number from 1, got '0'"),
        ("LOG_LEVEL", "LOUD", "expected one of DEBUG, INFO"),
        ("SECURE_SSL_REDIRECT", "2", "expected true or false"),
        ("SECURE_HSTS_SECONDS", "a year", "expected a whole number"),
    ],
)
def test_invalid_value_is_named(variable, value, expected):
    done = python("import config.settings", {**GOOD, variable: value})
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"  - {variable}: "), done.stderr
    assert expected in last


def test_all_errors_are_reported_at_once_without_passwords():
    broken = {"DATABASE_URL": "mystery://me:hunter2@host/db", "EMAIL_PORT": "x", "LOG_LEVEL": "y"}
    done = python("import config.settings", {**GOOD, **broken})
    assert all(name in done.stderr for name in broken)
    assert "hunter2" not in done.stderr.split("ImproperlyConfigured")[-1]


def test_plain_http_on_sqlite_without_redis_starts():
    cache, engine = shown({}, "CACHES", "SESSION_ENGINE")
    assert "LocMem" in cache["default"]["BACKEND"]
    assert engine.endswith(".db")


def test_defaults_are_those_of_the_specification():
    names = ("CORS_ALLOWED_ORIGINS", "CORS_ALLOW_CREDENTIALS", "RATE_LIMITS", "SECURE_SSL_REDIRECT")
    origins, credentials, rates, redirect = shown({}, *names)
    assert origins == ["http://localhost:3000", "https://myometrics.com"]
    assert credentials is True
    assert rates == {"auth": "5/minute", "api": "100/minute", "export": "2/hour"}
    assert redirect is False


@pytest.mark.parametrize("value", [None, "", "cascade", "retain", " Retain "])
def test_audit_on_user_delete_is_a_variable(value):
    given = {} if value is None else {"AUDIT_ON_USER_DELETE": value}
    (audit,) = shown(given, "MYOMETRICS_AUDIT")
    assert audit["ON_USER_DELETE"] == ((value or "").strip().lower() or "cascade")


@pytest.mark.parametrize(
    ("value", "roles"), [("", []), ("admin", ["admin"]), ("admin, doctor", ["admin", "doctor"])]
)
def test_mfa_required_roles_are_a_variable(value, roles):
    (auth,) = shown({"MFA_REQUIRED_ROLES": value}, "MYOMETRICS_AUTH")
    assert auth["MFA_REQUIRED_ROLES"] == roles


def test_trusted_proxies_may_include_unix_socket():
    (myometrics,) = shown({"TRUSTED_PROXIES": "unix:, 10.0.0.0/8"}, "MYOMETRICS")
    assert myometrics["TRUSTED_PROXIES"] == ["unix:", "10.0.0.0/8"]


def test_redis_url_sets_cache_sessions_limits_and_broker():
    url = "redis://localhost:6379/0"
    names = ("SESSION_ENGINE", "CELERY_BROKER_URL", "MYOMETRICS")
    engine, broker, myometrics = shown({"REDIS_URL": url}, *names)
    assert engine.endswith(".cache")
    assert broker == myometrics["RATE_LIMIT_STORAGE"] == url


BROKERS = [
    ("redis://:p%2Fw@host/3", "redis://:p%2Fw@host:6379/3"),
    ("redis://host:1?password=p%2Fw&db=3", "redis://:p%2Fw@host:1/3"),
    ("rediss://[::1]:1?ssl_cert_reqs=CERT_NONE", "redis://[::1]:1/0"),
    ("unix://:pw@/run/redis.sock?db=2", "redis+socket://:pw@/run/redis.sock?virtual_host=2"),
    ("sentinel://me:pw@a:1,b/main/4", "sentinel://me:pw@a:1/4;sentinel://me:pw@b:26379/4"),
    ("amqp://me:p%2Fw@host/vhost", "amqp://me:p%2Fw@host/vhost"),
    ("amqps://me:p%2Fw@host/vhost?ssl_cert_reqs=none", "amqp://me:p%2Fw@host:5671/vhost"),
]


@pytest.mark.parametrize(("url", "celerys"), BROKERS, ids=[url for url, _ in BROKERS])
def test_broker_url_is_converted_for_celery(url, celerys):
    check_broker_url(url)
    assert broker_settings(url)["CELERY_BROKER_URL"] == celerys


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("memory://", "must be a URL such as amqp://user:password@host"),
        ("amqp://", "must be a URL such as amqp://user:password@host"),
        ("amqp://me:hunter2/x@host", "of a password percent-encoded"),
        ("amqp://host?ssl_ca_certs=/hunter2", "ssl_ca_certs that can't be used, which needs amqps"),
        ("amqps://host?ssl_ca_certs=/hunter2", "a file in ssl_ca_certs that can't be read"),
        ("amqps://host?ssl_cert_reqs=hunter2", "none of required, optional, none"),
        ("amqps://host?colour=hunter2", "a query parameter colour that can't be used"),
        ("unix://run/redis.sock", "three slashes"),
    ],
)
def test_unusable_broker_url_is_rejected_with_reason(url, reason):
    with pytest.raises(ValueError, match=re.escape(reason)) as refused:
        check_broker_url(url)
    assert "hunter2" not in str(refused.value)


def test_broker_url_is_separate_from_redis_url():
    given = {"REDIS_URL": "redis://localhost:6379/0", "CELERY_BROKER_URL": "unix:///run/redis.sock"}
    code = (
        "from config.celery import app; conf = app.conf\n"
        "print(conf.broker_read_url, conf.broker_write_url, conf.MYOMETRICS['REDIS_URL'])\n"
        "print(conf.accept_content, conf.task_serializer)"
    )
    done = python(code, {**GOOD, **given})
    # Celery prefers the environment's own CELERY_BROKER_URL, which has another spelling.
    spelled = "redis+socket:///run/redis.sock?virtual_host=0"
    assert done.stdout.splitlines() == [
        f"{spelled} {spelled} {given['REDIS_URL']}",
        "['json'] json",
    ], done.stderr


def test_broker_without_redis_keeps_sessions_in_database():
    (engine,) = shown({"CELERY_BROKER_URL": "amqp://host"}, "SESSION_ENGINE")
    assert engine.endswith(".db")


@pytest.mark.parametrize(
    ("environment", "runner"),
    [
        ({}, "thread"),
        ({"JOB_RUNNER": ""}, "thread"),
        ({"JOB_RUNNER": "none"}, "none"),
        ({"CELERY_BROKER_URL": "amqp://host"}, "celery"),
        ({"REDIS_URL": "redis://host"}, "celery"),
        ({"REDIS_URL": "redis://host", "DEBUG": "true"}, "thread"),
        ({"REDIS_URL": "redis://host", "DEBUG": "true", "JOB_RUNNER": "celery"}, "celery"),
        ({"REDIS_URL": "redis://host", "JOB_RUNNER": "thread"}, "thread"),
    ],
)
def test_job_runner_is_celery_with_a_broker_in_production(environment, runner):
    (myometrics,) = shown(environment, "MYOMETRICS")
    assert myometrics["JOB_RUNNER"] == runner


def test_replica_urls_add_read_replicas():
    urls = "postgresql://me:pw@db2/site,postgresql://me:pw@db3:5433/site"
    names = ("DATABASES", "DATABASE_ROUTERS", "MYOMETRICS")
    given = {"REPLICA_URLS": urls, "REPLICA_LAG": "7"}
    databases, routers, myometrics = shown(given, *names)
    assert [databases[alias]["HOST"] for alias in ("replica1", "replica2")] == ["db2", "db3"]
    assert databases["replica1"]["TEST"]["MIRROR"] == "default"
    assert routers == ["myometrics_core.db.ReplicaRouter"]
    assert myometrics["READ_REPLICAS"] == ["replica1", "replica2"]
    assert myometrics["REPLICA_LAG"] == 7
    databases, routers, myometrics = shown({}, *names)
    assert (list(databases), routers, myometrics["READ_REPLICAS"]) == (["default"], [], [])


def mailer(environment):
    """The options of the site's default mail backend."""
    done = python(SHOW_MAILER, {**GOOD, **environment})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_mail_settings_follow_variables(tmp_path):
    host = {"EMAIL_HOST": "smtp.example", "EMAIL_HOST_USER": "me", "EMAIL_HOST_PASSWORD": "pw"}
    server = mailer(host)
    assert server["module"] == "django.core.mail.backends.smtp"
    assert (server["host"], server["port"]) == ("smtp.example", 587)
    assert (server["username"], server["password"]) == ("me", "pw")
    assert (server["use_tls"], server["use_ssl"], server["timeout"]) == (True, False, 10)
    assert mailer({})["module"] == "django.core.mail.backends.console"
    files = {"EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend"}
    folder = str(tmp_path / "mail")
    assert mailer({**files, "EMAIL_FILE_PATH": folder})["file_path"] == folder


def test_mail_settings_raise_no_deprecation_warning():
    done = python("import django; django.setup()", {**GOOD, "PYTHONWARNINGS": "always"})
    assert "EMAIL_" not in done.stderr


def test_unknown_host_is_json_400():
    code = (
        "import django; django.setup(); from django.test import Client;"
        "r = Client(SERVER_NAME='evil.example').get('/api/health/');"
        "print(r.status_code, r.json()['code'])"
    )
    done = python(code, GOOD)
    assert done.stdout.split() == ["400", "bad_request"], done.stderr


@pytest.mark.parametrize("command", ["migrate", "check", "audit_verify"])
def test_command_in_invalid_environment_prints_reasons_only(command):
    done = manage({"DEBUG": "false", "SECRET_KEY": "", "EMAIL_PORT": "smtp"}, command)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "The environment can't be used:"
    assert [line.split(":")[0] for line in lines[1:]] == ["  - EMAIL_PORT", "  - SECRET_KEY"]
