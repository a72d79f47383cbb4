"""The systemd units are valid and hardened, and start the site."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from running_site import PROJECT, UNITS, RunningSite, unit_commands

from myometrics_testing.services import free_port
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.any_database, pytest.mark.program("systemd-analyze")]

SERVERS = ("myometrics-web@8001", "myometrics-worker", "myometrics-beat")
TIMED = ("myometrics-backup", "myometrics-verify")
SERVICES = (*SERVERS, *TIMED)
OTHERS = (
    "myometrics.target",
    "myometrics-web@8001.socket",
    *(f"{name}.timer" for name in TIMED),
)
EXPOSURE = 15
"""The highest exposure that systemd may find, in tenths: 0 is best, 100 worst."""


@pytest.fixture(scope="module")
def analyze(tmp_path_factory):
    """``systemd-analyze`` with the units as installed, but for the folder of the programs."""
    folder = tmp_path_factory.mktemp("system")
    shutil.copytree(UNITS, folder, dirs_exist_ok=True)
    for path in folder.glob("*.service"):
        text = path.read_text()
        text = text.replace("/opt/myometrics/venv/bin", str(Path(sys.executable).parent))
        path.write_text(text.replace("/usr/local/sbin", str(UNITS)))

    def run(*arguments):
        return subprocess.run(
            ["systemd-analyze", *arguments],
            env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    return run


def test_systemd_accepts_the_units(analyze):
    done = analyze("verify", "--man=no", *(f"{name}.service" for name in SERVICES), *OTHERS)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_hardened(analyze, name):
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", f"{name}.service")
    assert done.returncode == 0, done.stdout


def test_units_run_current_release():
    texts = "\n".join(path.read_text() for path in UNITS.rglob("*") if path.is_file())
    assert set(re.findall(r"/opt/[^/\s\"}]*", texts)) == {"/opt/myometrics"}


def test_servers_restart_and_timed_services_run_once():
    assert "Restart=" not in (UNITS / "myometrics-.service.d/site.conf").read_text()
    for name in SERVERS:
        text = (UNITS / f"{name.partition('@')[0]}{'@' * ('@' in name)}.service").read_text()
        assert "Restart=always" in text
    for name in TIMED:
        assert "Type=oneshot" in (UNITS / f"{name}.service").read_text()
        assert "WantedBy=myometrics.target" in (UNITS / f"{name}.timer").read_text()


@pytest.mark.parametrize("name", TIMED)
def test_timer_calendar_is_valid(name):
    (calendar,) = re.findall("OnCalendar=(.*)", (UNITS / f"{name}.timer").read_text())
    subprocess.run(["systemd-analyze", "calendar", calendar], check=True, capture_output=True)


def test_units_have_no_secrets_and_take_precedence_over_file():
    texts = "\n".join(path.read_text() for path in UNITS.rglob("*") if path.is_file())
    assert "EnvironmentFile" not in texts  # it would win over Environment=
    lines = "".join(re.findall(r"^Environment=.*$", texts, re.MULTILINE))
    names = set(re.findall(r"\b([A-Z][A-Z_]+)=", lines))
    assert names == {
        "ENVIRONMENT_FILE",
        "DATA_DIR",
        "PROMETHEUS_MULTIPROC_DIR",
        "PYTHONUNBUFFERED",
    }


@pytest.fixture
def site(tmp_path):
    running = RunningSite(tmp_path, f"sqlite:///{tmp_path / 'site.sqlite3'}", None)
    running.manage("migrate", "--verbosity=0")
    yield running
    running.stop()


def test_timed_verification_runs_and_is_recorded(site):
    (command,) = re.findall("ExecStart=(.*)", (UNITS / "myometrics-verify.service").read_text())
    program, *arguments = command.split()
    assert (Path(program).name, arguments[0]) == ("python", "manage.py")
    assert "No problems." in site.manage(*arguments[1:])
    code = (
        "from myometrics_audit.gauges import verification_problems;"
        "print('found', verification_problems())"
    )
    assert site.manage("shell", "-c", code).splitlines()[-1] == "found 0.0"


def test_web_server_uses_socket_of_unit_and_reports_readiness(site):
    """Started as by systemd: with an open socket and a notification socket."""
    program, *arguments = unit_commands()["web"]
    port, other = free_port(), free_port()
    site.environment["PORT"] = str(other)
    site.processes["web"] = subprocess.Popen(
        [
            *("systemd-socket-activate", f"--listen=127.0.0.1:{port}"),
            *(f"--setenv={name}" for name in site.environment),
            *(f"{Path(sys.executable).parent}/{program}", *arguments),
        ],
        cwd=PROJECT,
        env=site.environment,
    )
    url = f"http://localhost:{port}/livez"

    def answers(at=url):
        try:
            return httpx.get(at, timeout=PATIENCE).status_code == 200
        except httpx.TransportError:
            return False

    assert wait_for(answers)
    assert not answers(f"http://localhost:{other}/livez")
    site.processes["web"].send_signal(signal.SIGTERM)
    assert site.processes["web"].wait(timeout=PATIENCE) == 0
