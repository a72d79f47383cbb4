"""Units, compose.yaml, Dockerfile and workflows agree, and their commands work."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import yaml
from running_site import PROJECT, UNITS, RunningSite, unit_commands

from myometrics_testing.waiting import PATIENCE

pytestmark = pytest.mark.any_database

ROOT = PROJECT.parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
OPERATIONS = ROOT / "docs" / "operations"
DOCKERFILE = (ROOT / "Dockerfile").read_text()


SITE = ("web", "worker", "beat", "migrate")
SERVICES = COMPOSE["services"]
LAYOUT = {"DATA_DIR", "HOST", "PORT", "BEHIND_TLS_PROXY"}
"""Variables that follow from compose.yaml itself, so that it alone sets them."""
PORTS = ["8001", "8002"]
KNOWN = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))


def command_of(service):
    return SERVICES[service]["command"].split()


def test_units_compose_and_image_run_same_commands():
    commands = unit_commands()
    assert {name: command_of(name)[: len(commands[name])] for name in commands} == commands
    command = re.findall(r"^CMD \[(.*)\]$", DOCKERFILE, re.MULTILINE)[-1]
    assert re.findall(r'"([^"]+)"', command) == commands["web"]


def test_site_runs_unprivileged_on_read_only_file_system():
    assert re.search(r"^USER site$", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", DOCKERFILE, re.MULTILINE)
    for name in SITE:
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "/tmp" in service["tmpfs"]


def test_every_environment_variable_reaches_every_container():
    for name in SITE:
        assert SERVICES[name]["env_file"] == [".env"]
        for variable, value in SERVICES[name]["environment"].items():
            # What is set beside the file must be what the file says, if it says anything.
            assert variable in LAYOUT or value.startswith((f"${{{variable}-", f"${{{variable}:-"))
            assert variable in KNOWN


def test_passwords_are_required_and_have_no_default():
    text = (ROOT / "compose.yaml").read_text()
    for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD"):
        uses = re.findall(rf"\$\{{{name}([^}}]*)\}}", text)
        assert uses
        assert all(use.startswith(f":?Set {name} in .env") for use in uses)
        assert name in KNOWN
    # Nothing else that is used must be set.
    required = set(re.findall(r"\$\{([A-Z_]+):?\?", text))
    assert required == {"POSTGRES_PASSWORD", "REDIS_PASSWORD"}
    assert set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text)) <= KNOWN


def test_only_nginx_is_published_and_reaches_web_server():
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"network"}
    assert SERVICES["web"]["environment"]["HOST"] == "127.0.0.1"


def test_nginx_and_web_keep_network_on_restart():
    """A restarted container gets no network if it shares that of a removed container."""
    for name in ("nginx", "web"):
        assert SERVICES[name]["network_mode"] == "service:network"
    assert SERVICES["network"]["command"] == "tail -f /dev/null"


def test_logs_of_containers_are_limited():
    for name, service in SERVICES.items():
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
    command = " ".join(SERVICES["nginx"]["command"])
    assert "/var/log/nginx" in SERVICES["nginx"]["tmpfs"]
    logs = re.findall(r"access_log /var/log/nginx/(\S+)", (OPERATIONS / "nginx.conf").read_text())
    for log in (*logs, "access.log"):
        assert f"ln -sf /dev/stdout {log}" in command


def test_nginx_units_and_compose_use_same_ports():
    nginx = (OPERATIONS / "nginx.conf").read_text()
    target = (UNITS / "myometrics.target").read_text()
    assert re.findall(r"server 127\.0\.0\.1:(\d+)", nginx) == PORTS
    assert re.findall(r"myometrics-web@(\d+)\.service", target) == PORTS
    assert re.findall(r"--bind 127\.0\.0\.1:(\d+)", SERVICES["web"]["command"]) == PORTS
    assert SERVICES["web"]["environment"]["PORT"] == PORTS[0]
    assert "/etc/nginx/conf.d/" in nginx
    mounts = " ".join(SERVICES["nginx"]["volumes"])
    places = mounts + "".join(f":{place}" for place in SERVICES["nginx"]["tmpfs"])
    assert "./docs/operations/nginx.conf}:/etc/nginx/conf.d/" in mounts
    # Each folder that the file names is there in the container.
    for folder in re.findall(r"(?:root|access_log|ssl_certificate) (/\w+/[\w.]+(?:/html)?)", nginx):
        assert f":{folder}" in places


def test_every_service_has_health_check_and_dependencies():
    for name, service in SERVICES.items():
        if service.get("restart") == "no":
            assert service["healthcheck"] == {"disable": True}
        else:
            assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
        for needed, how in service.get("depends_on", {}).items():
            ends = SERVICES[needed].get("restart") == "no"
            state = "service_completed_successfully" if ends else "service_healthy"
            assert how == {"condition": state}
    assert set(SERVICES["worker"]["depends_on"]) == {"migrate", "redis"}
    assert set(SERVICES["migrate"]["depends_on"]) == {"postgres"}


PINNED = re.compile(r"[\w./-]+:\d+\.\d+[\w.-]*@sha256:[0-9a-f]{64}")


def test_images_are_pinned_by_version_and_digest():
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    images += re.findall(r"^ARG PYTHON=(.*)$", DOCKERFILE, re.MULTILINE)
    assert len(set(images)) == 4
    assert [image for image in images if not PINNED.fullmatch(image)] == []
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${PYTHON}"}


def test_image_installs_hashed_packages_only():
    commands = re.split(r"&&|\n", DOCKERFILE.replace("\\\n", " "))
    installs = [one for one in commands if re.search(r"pip .*(install|wheel) ", one)]
    assert len(installs) == 4
    assert all("--require-hashes" in one or "--no-index" in one for one in installs)


def test_files_copied_to_image_exist_and_are_not_ignored():
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists()
            assert f"!{source.split('/')[0]}" in allowed


def test_workflow_actions_are_pinned_by_commit():
    workflows = list((ROOT / ".github" / "workflows").glob("*.yml"))
    uses = [line for path in workflows for line in re.findall(r"uses: .*", path.read_text())]
    assert len(uses) > 5
    pinned = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert [line for line in uses if not pinned.fullmatch(line)] == []


def test_example_environment_lists_every_variable():
    source = "".join(path.read_text() for path in (PROJECT / "config").glob("*.py"))
    used = set(re.findall(r'\benv\.\w+\(\s*"([A-Z_]+)"', source))
    used |= set(re.findall(r'environ(?:\.get\(|\[)"([A-Z_]+)"', source))
    assert used - KNOWN - {"DJANGO_SETTINGS_MODULE"} == set()


def test_variables_page_has_every_variable_and_secret_file():
    page = (OPERATIONS / "variables.md").read_text()
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE)) == KNOWN
    source = "".join(path.read_text() for path in (PROJECT / "config").glob("*.py"))
    secrets = re.findall(r'from_file\(\s*"([A-Z_]+)"', source)
    assert secrets
    assert [name for name in secrets if f"{name}_FILE" not in page] == []


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
def test_health_check_reflects_web_server_state(site):
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
def test_plain_requests_are_redirected_except_probes(site):
    answer = site.get("/api/health/")
    assert (answer.status_code, answer.headers["Location"]) == (
        301,
        f"https://localhost:{site.port}/api/health/",
    )
    secure = site.get("/api/health/", **{"X-Forwarded-Proto": "https"})
    assert secure.status_code == 401
    assert secure.headers["Strict-Transport-Security"].startswith("max-age=3600")
    assert site.get("/readyz").status_code == 200


def test_all_processes_log_json(site):
    import json

    site.get("/api/nothing/")
    lines = [json.loads(line) for line in site.log.splitlines()]
    assert {"gunicorn.error", "myometrics.access"} <= {line["logger"] for line in lines}
    assert os.environ.get("SECRET_KEY", "x" * 99) not in site.log
