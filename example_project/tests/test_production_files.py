"""Procfile, compose.yaml and Dockerfile say the same; what they run answers as it should."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import yaml
from running_site import PROJECT, RunningSite, procfile

from myometrics_testing.waiting import PATIENCE

pytestmark = pytest.mark.any_database

ROOT = PROJECT.parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_compose_runs_the_very_commands_of_the_procfile():
    services = COMPOSE["services"]
    assert {name: services[name]["command"].split() for name in procfile()} == procfile()


def test_the_image_runs_the_web_server_of_the_procfile():
    command = re.findall(r"^CMD \[(.*)\]$", DOCKERFILE, re.MULTILINE)[-1]
    assert re.findall(r'"([^"]+)"', command) == procfile()["web"]


def test_the_site_runs_without_rights_on_a_read_only_file_system():
    assert re.search(r"^USER site$", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", DOCKERFILE, re.MULTILINE)
    for name in (*procfile(), "migrate"):
        service = COMPOSE["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "/tmp" in service["tmpfs"]


def test_what_the_image_copies_is_there_and_not_ignored():
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists()
            assert f"!{source.split('/')[0]}" in allowed


def test_every_variable_that_compose_sets_is_in_the_example_environment():
    known = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert set(COMPOSE["services"]["web"]["environment"]) <= known


def test_the_example_environment_names_every_variable_of_the_settings():
    known = set(re.findall(r"[A-Z_]{3,}", (ROOT / ".env.example").read_text()))
    source = "".join(
        (PROJECT / "config" / name).read_text() for name in ("settings.py", "gunicorn.py")
    )
    used = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', source))
    used |= set(re.findall(r'environ\.get\("([A-Z_]+)"', source))
    assert used - known == set()


@pytest.fixture
def site(request, tmp_path):
    running = RunningSite(tmp_path, f"sqlite:///{tmp_path / 'site.sqlite3'}", None)
    running.environment |= {"ALLOWED_HOSTS": "localhost", **getattr(request, "param", {})}
    try:
        running.start()
        yield running
    finally:
        running.stop()


def health_check(site):
    return subprocess.run(
        [sys.executable, "healthcheck.py"], cwd=PROJECT, env=site.environment, check=False
    ).returncode


ASGI = {"WEB_WORKER_CLASS": "uvicorn_worker.UvicornWorker"}


@pytest.mark.parametrize("site", [{}, ASGI], indirect=True, ids=["wsgi", "asgi"])
def test_the_web_server_answers_and_its_health_check_tells(site):
    assert health_check(site) == 0
    answer = site.get("/api/health/")
    assert answer.status_code == 401
    assert answer.headers["X-Request-ID"]
    page = site.get("/admin/login/").text
    for address in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
        assert site.get(address).status_code == 200
    site.processes["web"].terminate()
    assert site.processes["web"].wait(timeout=PATIENCE) == 0
    assert health_check(site) == 1


TLS = {"SECURE_SSL_REDIRECT": "true", "BEHIND_TLS_PROXY": "true", "SECURE_HSTS_SECONDS": "3600"}


@pytest.mark.parametrize("site", [TLS], indirect=True)
def test_behind_a_tls_proxy_plain_requests_are_sent_to_https_and_probes_answer(site):
    answer = site.get("/api/health/")
    assert (answer.status_code, answer.headers["Location"]) == (
        301,
        f"https://localhost:{site.port}/api/health/",
    )
    secure = site.get("/api/health/", **{"X-Forwarded-Proto": "https"})
    assert secure.status_code == 401
    assert secure.headers["Strict-Transport-Security"].startswith("max-age=3600")
    assert site.get("/readyz").status_code == 200


def test_log_lines_of_all_processes_are_json(site):
    import json

    site.get("/api/nothing/")
    lines = [json.loads(line) for line in site.log.splitlines()]
    assert {"gunicorn.error", "myometrics.access"} <= {line["logger"] for line in lines}
    assert os.environ.get("SECRET_KEY", "x" * 99) not in site.log
