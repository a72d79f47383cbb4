"""The environment is checked as a whole: errors name the variable and the expected format."""

import json
import re

import pytest
from fresh_process import GOOD, manage, python, shown

from config.optional.brokers import broker_settings, check_broker_url
from myometrics_audit.signing.notes import generate_key

pytestmark = pytest.mark.any_database

WITNESS = "w+a2edf5c4+BA7qdJ1XzE0lPjHwyIsyju+c+uzB45E2uvVv5nTY/oBT"

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
        ("IDENTITY_PROVIDERS", "google", "expected a JSON object of identity providers by slug"),
        ("IDENTITY_PROVIDERS", "[1]", "expected a JSON object of identity providers by slug"),
        ("IDENTITY_PROVIDERS", '{"a": {"client_id": "x"}}', "['a'] lacks 'issuer'"),
        (
            "IDENTITY_PROVIDERS",
            '{"a": {"issuer": "http://a.example", "client_id": "x"}}',
            "['a']['issuer'] must be an https URL",
        ),
        ("SESSION_IDLE_TIMEOUT", "0", "expected a time such as 900, 30m, 8h or 7d, got '0'"),
        ("SESSION_IDLE_TIMEOUT", "30 min", "expected a time such as 900, 30m, 8h or 7d"),
        ("SESSION_IDLE_TIMEOUT", "9" * 99, "expected a time such as 900, 30m, 8h or 7d"),
        ("SESSIONS_PER_USER", "0", "expected a whole number from 1, got '0'"),
        ("ROTATE_REFRESH_TOKENS", "often", "expected true or false, got 'often'"),
        ("REAUTHENTICATE_FOR", "export,login", "expected some of delete_account, change_email"),
        ("JOB_RUNNER", "celery", "expected thread or tasks or none, got 'celery'"),
        ("REGISTRATION", "none", "expected open or invitation or closed, got 'none'"),
        ("EMAIL_VERIFICATION", "yes", "expected optional or required, got 'yes'"),
        ("AUDIT_ON_USER_DELETE", "drop", "expected cascade or retain, got 'drop'"),
        (
            "AUDIT_RECORD_READS",
            "exports,all",
            "expected some of exports, users, audit_logs, analytics, got 'all'",
        ),
        ("AUDIT_CHECKPOINT_KEY", "secret", "not an Ed25519 private key"),
        ("AUDIT_WITNESSES", '{"key": "https://a.example"}', "expected a JSON object: public key"),
        ("AUDIT_WITNESSES", "[]", "expected a JSON object: public key"),
        ("AUDIT_WITNESSES", json.dumps({WITNESS: ""}), "expected a JSON object: public key"),
        ("AUDIT_WITNESS_QUORUM", "0", "expected a whole number from 1, got '0'"),
        ("AUDIT_TIMESTAMP_URL", "tsa.example", "expected a URL such as http://host:port"),
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
    ("given", "reads"),
    [
        ({}, ["exports"]),
        ({"AUDIT_RECORD_READS": ""}, []),
        ({"AUDIT_RECORD_READS": "users, analytics"}, ["users", "analytics"]),
    ],
)
def test_audit_record_reads_is_a_variable(given, reads):
    (audit,) = shown(given, "MYOMETRICS_AUDIT")
    assert audit["RECORD_READS"] == reads


@pytest.mark.parametrize(
    ("value", "roles"), [("", []), ("admin", ["admin"]), ("admin, doctor", ["admin", "doctor"])]
)
def test_mfa_required_roles_are_a_variable(value, roles):
    (auth,) = shown({"MFA_REQUIRED_ROLES": value}, "MYOMETRICS_AUTH")
    assert auth["MFA_REQUIRED_ROLES"] == roles


@pytest.mark.parametrize(
    ("given", "registration", "verification"),
    [
        ({}, "open", "optional"),
        ({"REGISTRATION": "", "EMAIL_VERIFICATION": ""}, "open", "optional"),
        (
            {"REGISTRATION": "Invitation", "EMAIL_VERIFICATION": "required"},
            "invitation",
            "required",
        ),
    ],
)
def test_registration_and_verification_are_variables(given, registration, verification):
    (auth,) = shown(given, "MYOMETRICS_AUTH")
    assert (auth["REGISTRATION"], auth["EMAIL_VERIFICATION"]) == (registration, verification)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("SESSION_IDLE_TIMEOUT", "", "None"),
        ("SESSION_IDLE_TIMEOUT", "900", "0:15:00"),
        ("SESSION_IDLE_TIMEOUT", "30m", "0:30:00"),
        ("SESSION_IDLE_TIMEOUT", " 8H ", "8:00:00"),
        ("SESSION_IDLE_TIMEOUT", "2d", "2 days, 0:00:00"),
        ("SESSIONS_PER_USER", "", "None"),
        ("SESSIONS_PER_USER", "3", "3"),
        ("ROTATE_REFRESH_TOKENS", "", "False"),
        ("ROTATE_REFRESH_TOKENS", "true", "True"),
        ("REAUTHENTICATE_FOR", "", "[]"),
        ("REAUTHENTICATE_FOR", "export, disable_mfa", "['export', 'disable_mfa']"),
    ],
)
def test_limits_of_sessions_are_variables(variable, value, expected):
    code = f"from config import settings; print(settings.MYOMETRICS_AUTH[{variable!r}])"
    done = python(code, {**GOOD, variable: value})
    assert done.stdout.strip() == expected, done.stderr


def test_domain_and_origins_of_passkeys_are_variables():
    names = ("PASSKEY_RP_ID", "PASSKEY_ORIGINS")
    (auth,) = shown({}, "MYOMETRICS_AUTH")
    assert [auth[name] for name in names] == [None, None]
    given = {"PASSKEY_RP_ID": "clinic.example", "PASSKEY_ORIGINS": "https://a.clinic.example"}
    (auth,) = shown(given, "MYOMETRICS_AUTH")
    assert [auth[name] for name in names] == ["clinic.example", ["https://a.clinic.example"]]


def test_scim_providers_install_and_serve_provisioning():
    pytest.importorskip("scim2_server", reason="SCIM needs Python 3.11")
    code = """
import django
django.setup()
from django.conf import settings
from django.urls import NoReverseMatch, reverse
print("myometrics_auth.scim" in settings.INSTALLED_APPS)
try:
    print(reverse("myometrics_scim:root", args=["entra"]))
except NoReverseMatch:
    print("not served")
"""
    providers = '{"entra": {"roles": {"Admins": "admin"}}}'
    switched_on = python(code, {**GOOD, "SCIM_PROVIDERS": providers})
    assert switched_on.stdout.split("\n")[:2] == ["True", "/scim/v2/entra/"], switched_on.stderr
    switched_off = python(code, GOOD)
    assert switched_off.stdout.split("\n")[:2] == ["False", "not served"], switched_off.stderr


@pytest.mark.parametrize("value", ["entra", "[]", '{"entra"'])
def test_scim_providers_are_a_json_object(value):
    refused = python("import django; django.setup()", {**GOOD, "SCIM_PROVIDERS": value})
    assert refused.returncode != 0
    assert "SCIM_PROVIDERS" in refused.stderr


def test_streams_install_their_app():
    code = """
import django
django.setup()
from django.conf import settings
from myometrics_core.jobs.kinds import job_kinds
print("myometrics_audit.streams" in settings.INSTALLED_APPS)
print("myometrics_audit.stream.siem" in [kind.name for kind in job_kinds()])
"""
    streams = '{"siem": {"url": "https://siem.example/", "format": "ecs"}}'
    switched_on = python(code, {**GOOD, "AUDIT_STREAMS": streams})
    assert switched_on.stdout.split()[:2] == ["True", "True"], switched_on.stderr
    switched_off = python(code, GOOD)
    assert switched_off.stdout.split()[:2] == ["False", "False"], switched_off.stderr
    refused = python(code, {**GOOD, "AUDIT_STREAMS": "[]"})
    assert "AUDIT_STREAMS" in refused.stderr


def test_checkpoint_key_installs_and_serves_checkpoints():
    code = """
import django
django.setup()
from django.conf import settings
from django.urls import NoReverseMatch, reverse
print("myometrics_audit.checkpoints" in settings.INSTALLED_APPS)
try:
    print(reverse("myometrics_audit_checkpoints:checkpoint"))
except NoReverseMatch:
    print("not served")
"""
    switched_on = python(code, {**GOOD, "AUDIT_CHECKPOINT_KEY": generate_key("log").text})
    assert switched_on.stdout.split() == ["True", "/audit-log/checkpoint"], switched_on.stderr
    switched_off = python(code, GOOD)
    assert switched_off.stdout.split("\n")[:2] == ["False", "not served"], switched_off.stderr


def test_name_of_the_clinic_installs_and_serves_access_reports():
    code = """
import django
django.setup()
from django.conf import settings
from django.urls import resolve
print("myometrics_audit.access_report" in settings.INSTALLED_APPS)
print(resolve("/api/audit-logs/access-report/").url_name)
"""
    switched_on = python(code, {**GOOD, "AUDIT_ACCESS_REPORT_CLINIC": "North Clinic"})
    assert switched_on.stdout.split()[:2] == ["True", "access-report"], switched_on.stderr
    switched_off = python(code, GOOD)
    assert switched_off.stdout.split()[:2] == ["False", "audit-log"], switched_off.stderr


@pytest.mark.parametrize(
    ("variable", "app"),
    [
        ("AUDIT_PARTITIONS", "myometrics_audit.partitions"),
        ("AUDIT_LEGAL_HOLDS", "myometrics_audit.legal_hold"),
    ],
)
def test_switches_install_apps_of_the_audit_log(variable, app):
    code = f"""
import django
django.setup()
from django.apps import apps
print(apps.is_installed("{app}"))
"""
    switched_on = python(code, {**GOOD, variable: "true"})
    assert switched_on.stdout.split()[:1] == ["True"], switched_on.stderr
    switched_off = python(code, GOOD)
    assert switched_off.stdout.split()[:1] == ["False"], switched_off.stderr


def test_options_of_checkpoints_are_variables():
    old, witness = generate_key("log").verifier, generate_key("w", is_witness=True).verifier
    given = {
        "AUDIT_CHECKPOINT_KEY": generate_key("log").text,
        "AUDIT_CHECKPOINT_OLD_KEYS": f"{old}",
        "AUDIT_CHECKPOINT_ORIGIN": "clinic.example/log",
        "AUDIT_WITNESSES": json.dumps({str(witness): "https://w.example"}),
        "AUDIT_WITNESS_QUORUM": "1",
        "AUDIT_TIMESTAMP_URL": "https://tsa.example/stamp/",
    }
    (audit,) = shown(given, "MYOMETRICS_AUDIT")
    expected = {
        "CHECKPOINT_KEY": given["AUDIT_CHECKPOINT_KEY"],
        "CHECKPOINT_OLD_KEYS": [str(old)],
        "CHECKPOINT_ORIGIN": "clinic.example/log",
        "WITNESSES": {str(witness): "https://w.example"},
        "WITNESS_QUORUM": 1,
        "TIMESTAMP_URL": "https://tsa.example/stamp/",
    }
    assert {name: audit[name] for name in expected} == expected
    assert manage({**GOOD, **given}, "check").returncode == 0


def test_key_of_checkpoints_is_made_before_it_is_configured(tmp_path):
    path = tmp_path / "key"
    made = manage(GOOD, "audit_key", "--name", "clinic.example/log", "--output", str(path))
    assert made.returncode == 0, made.stderr
    shown = manage({**GOOD, "AUDIT_CHECKPOINT_KEY_FILE": str(path)}, "audit_key")
    assert shown.stdout == made.stdout


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


@pytest.mark.parametrize("module", ["wsgi", "asgi"])
def test_application_has_imported_its_views(module):
    code = f"import sys, config.{module}; print('myometrics_auth.views.sign_in' in sys.modules)"
    done = python(code, GOOD)
    assert done.stdout.strip() == "True", done.stderr
