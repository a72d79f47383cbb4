"""The site's settings in production: checks, hardening, secrets from files, warnings."""

from __future__ import annotations

import json
import re

import django
import pytest
from fresh_process import GOOD, PRODUCTION, PROJECT, SECRET, SHOW, deploy_check, python, shown

pytestmark = pytest.mark.any_database

START = "import config.wsgi"


def test_check_deploy_of_production_environment_is_clean():
    done = deploy_check(PRODUCTION)
    assert done.returncode == 0, done.stderr
    assert "no issues (0 silenced)" in done.stdout


def test_documented_production_environment_is_clean(tmp_path):
    """Added to a copy of ``.env.example``, as documented."""
    page = (PROJECT.parent / "docs" / "operations" / "deployment.md").read_text()
    (block,) = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)
    environment = EXAMPLE | dict(line.split("=", 1) for line in block.splitlines())
    for name, path in environment.items():
        if path.startswith("/run/secrets/"):
            secret = PRODUCTION.get(name.removesuffix("_FILE"), "hunter2")
            (tmp_path / name).write_text(secret)
            environment[name] = str(tmp_path / name)
    done = deploy_check(environment)
    assert done.returncode == 0, done.stderr


UNWISE = {
    "security.W004": ("SECURE_HSTS_SECONDS", "0"),
    "security.W008": ("SECURE_SSL_REDIRECT", "false"),
    "security.W009": ("SECRET_KEY", "short"),
    "security.W012": ("SECURE_COOKIES", "false"),
    "myometrics_audit.W013": ("AUDIT_KEYS", ""),
    "config.W001": ("DATABASE_URL", "sqlite:///:memory:"),
    "config.W002": ("REDIS_URL", ""),
    "config.W003": ("EMAIL_HOST", ""),
}


def test_check_deploy_names_unsafe_settings():
    done = deploy_check({**PRODUCTION, **dict(UNWISE.values())})
    assert done.returncode != 0
    assert [number for number in UNWISE if number not in done.stderr] == []


def test_minimal_environment_starts_and_logs_warnings():
    done = python(START, GOOD)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    said = {line["message"].partition(":")[0] for line in lines if line["level"] == "WARNING"}
    assert {"security.W004", "security.W008", "config.W001", "config.W002"} <= said


def test_production_environment_starts_without_warning():
    done = python(START, PRODUCTION)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_wildcard_host_needs_debug():
    hosts = "api.clinic.example,*"
    done = python(START, {**PRODUCTION, "ALLOWED_HOSTS": hosts})
    assert done.returncode != 0
    assert "  - ALLOWED_HOSTS: may not be * when DEBUG is off" in done.stderr
    assert shown({"DEBUG": "true", "ALLOWED_HOSTS": hosts}, "ALLOWED_HOSTS") == [hosts.split(",")]


SECRETS = {
    "SECRET_KEY": (SECRET, "SECRET_KEY"),
    "DATABASE_URL": ("sqlite:////tmp/of-the-file.sqlite3", "DATABASES"),
    "REDIS_URL": ("redis://of-the-file:6379/0", "REDIS_URL"),
    "CELERY_BROKER_URL": ("amqp://of-the-file/", "CELERY_BROKER_URL"),
    "EMAIL_HOST_PASSWORD": (
        "of the file",
        "MAILERS" if django.VERSION >= (6, 1) else "EMAIL_HOST_PASSWORD",
    ),
    "SECRET_KEY_FALLBACKS": ("of-the-file", "SECRET_KEY_FALLBACKS"),
    "SIGNING_KEYS": ("signing-key-of-the-file", "MYOMETRICS_AUTH"),
    "PSEUDONYM_KEYS": ("pseudonym-key-of-the-file", "MYOMETRICS"),
}


EXAMPLE = dict(
    re.findall(r"^([A-Z_]+)=(.*)$", (PROJECT.parent / ".env.example").read_text(), re.MULTILINE)
)
BESIDE = {"nothing": {}, "empty": dict.fromkeys(SECRETS, ""), ".env.example": EXAMPLE}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
def test_secrets_can_be_read_from_files(tmp_path, beside):
    environment = {"DEBUG": "false", **beside, "EMAIL_HOST": "smtp.clinic.example"}
    for name, (secret, _) in SECRETS.items():
        (tmp_path / name).write_text(f"{secret}\n")
        environment[f"{name}_FILE"] = str(tmp_path / name)
    done = python(SHOW.format(names=[setting for _, setting in SECRETS.values()]), environment)
    assert done.returncode == 0, done.stderr
    found = done.stdout.splitlines()
    for line, (secret, _) in zip(found, SECRETS.values(), strict=True):
        assert secret.removeprefix("sqlite:///") in line


def test_unusable_secret_file_is_named(tmp_path):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "secret").write_text(SECRET)
    for path, expected in {
        tmp_path / "missing": "names a file that can't be read (FileNotFoundError)",
        tmp_path: "names a file that can't be read (IsADirectoryError)",
        tmp_path / "empty": "names a file that is empty",
        tmp_path / "secret": "is set beside SECRET_KEY",
    }.items():
        done = python(
            START,
            {**PRODUCTION, "SECRET_KEY_FILE": str(path)}
            | ({} if path.name == "secret" else {"SECRET_KEY": ""}),
        )
        assert done.returncode != 0
        assert f"  - SECRET_KEY_FILE: {expected}" in done.stderr
        assert SECRET not in done.stderr


def test_connections_are_pooled_or_else_persistent():
    pooled = shown({**PRODUCTION, "DATABASE_POOL_SIZE": "6"}, "DATABASES")[0]["default"]
    if django.VERSION >= (5, 1):
        assert pooled["ENGINE"] == "config.optional.postgresql"
        assert pooled["OPTIONS"]["pool"]["max_size"] == 6
        assert pooled.get("CONN_MAX_AGE", 0) == 0
    else:
        assert "pool" not in pooled["OPTIONS"]
        assert pooled["CONN_MAX_AGE"] == 60
        assert pooled["CONN_HEALTH_CHECKS"] is True
    single = shown(PRODUCTION, "DATABASES")[0]["default"]
    assert "pool" not in single["OPTIONS"]
    assert single["CONN_MAX_AGE"] == 60
    assert single["CONN_HEALTH_CHECKS"] is True


@pytest.mark.parametrize("pool_size", ["0", "6"])
def test_transaction_pooling_is_one_variable(pool_size):
    environment = {**PRODUCTION, "DATABASE_POOL_SIZE": pool_size}
    direct, pooled = (
        shown({**environment, "DATABASE_POOLING": value}, "DATABASES")[0]["default"]
        for value in ("none", "transaction")
    )
    assert direct["DISABLE_SERVER_SIDE_CURSORS"] is False
    assert direct["OPTIONS"]["prepare_threshold"] == 5
    assert pooled["DISABLE_SERVER_SIDE_CURSORS"] is True
    assert pooled["OPTIONS"]["prepare_threshold"] is None


def test_options_in_database_url_take_precedence():
    url = "postgresql://u:p@h/n?prepare_threshold=7"
    environment = {**PRODUCTION, "DATABASE_POOLING": "transaction", "DATABASE_URL": url}
    assert shown(environment, "DATABASES")[0]["default"]["OPTIONS"]["prepare_threshold"] == 7


def test_sqlite_has_no_pool_options():
    database = shown({"DATABASE_POOL_SIZE": "6"}, "DATABASES")[0]["default"]
    assert "pool" not in database["OPTIONS"]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/admin/login/", "/api/docs/", "/api/schema/", "/livez"])
def test_every_response_has_security_policies(client, path):
    response = client.get(path)
    assert response.status_code == 200
    policy = response["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert response["Referrer-Policy"] == "same-origin"
    assert response["X-Content-Type-Options"] == "nosniff"


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/admin/login/", "/api/docs/"])
def test_pages_have_no_inline_scripts(client, path):
    page = client.get(path).content.decode()
    for script in page.split("<script")[1:]:
        assert script.split(">")[0].strip().startswith(("src=", "id=")), script[:200]
    assert "onclick=" not in page


@pytest.mark.django_db
def test_documentation_page_script_is_served(client):
    page = client.get("/api/docs/").content.decode()
    assert 'src="/api/docs/?script="' in page
    script = client.get("/api/docs/?script=")
    assert "SwaggerUIBundle(" in script.content.decode()
    assert script["Content-Type"].startswith("application/javascript")
