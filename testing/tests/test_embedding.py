"""A clinic's own site takes one package from its wheel, adds three lines, and is served.

A bare ``django-admin startproject`` in an environment of its own, with nothing of this repository
but the wheels of core and of one package; over real HTTP, with Django's own user model and with
one whose keys are UUIDs.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from myometrics_testing.commands.repository import ROOT

PACKAGES = ("audit", "analytics", "notifications")
PASSWORD = "correct-horse-battery"
ENTRY = {"action": "upload_created", "resource_type": "upload", "resource_id": "u1"}

UUID_USER = """
import uuid
from django.contrib.auth.models import AbstractUser
from django.db import models

class Person(AbstractUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
"""
TOKENS = """
INSTALLED_APPS += ["rest_framework.authtoken"]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"]
}
"""
PEOPLE = """
from django.contrib.auth import get_user_model
people = get_user_model().objects
people.create_superuser("root", "root@clinic.example", {password!r})
people.create_user("ada", "ada@clinic.example", {password!r})
"""


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    for name in ("core", *PACKAGES):
        package = ROOT / "packages" / f"myometrics-{name}"
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(command, cwd=package, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session", params=PACKAGES)
def environment(request, wheels, tmp_path_factory):
    """A Python with the newest of everything and the wheels of one package and core."""
    folder = tmp_path_factory.mktemp(f"clinic-{request.param}")
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", "-p", sys.executable, str(folder)], check=True)
    python = folder / "bin" / "python"
    chosen = [str(next(wheels.glob(f"myometrics_{name}-*"))) for name in ("core", request.param)]
    subprocess.run([*uv, "pip", "install", "-q", "-p", str(python), *chosen], check=True)
    return request.param, python


class ClinicsSite:
    """What ``django-admin startproject`` makes, and the few lines that a clinic adds."""

    def __init__(self, folder: Path, package: str, python: Path, user_model: str) -> None:
        self.folder, self.python = folder, python
        self.variables = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        self._run("-m", "django", "startproject", "clinic", ".")
        if user_model == "uuid":
            self._own_user_model()
        ours = ["rest_framework", "myometrics_core", f"myometrics_{package}"]
        self._append("settings.py", f"INSTALLED_APPS += {ours!r}\n")
        if user_model == "uuid":
            self._append("settings.py", TOKENS)
        self._append(
            "urls.py",
            "from django.urls import include\n"
            f'urlpatterns += [path("api/", include("myometrics_{package}.urls"))]\n',
        )
        self.with_tokens = user_model == "uuid"

    def prepare(self) -> None:
        """Check, migrate, make two people; fail on any warning and on any missing migration."""
        if self.with_tokens:
            self.manage("makemigrations", "people")
        self.manage("check", "--fail-level", "WARNING")
        self.manage("makemigrations", "--check", "--dry-run")
        self.manage("migrate", "--verbosity=0")
        self.manage("shell", "-c", PEOPLE.format(password=PASSWORD))

    def manage(self, *arguments: str) -> str:
        """The output of a management command."""
        return self._run("manage.py", *arguments)

    def credentials(self, name: str) -> dict:
        """What ``httpx`` needs to ask as ``name``."""
        if not self.with_tokens:
            return {"auth": (name, PASSWORD)}
        token = self.manage("drf_create_token", name).split()[2]
        return {"headers": {"Authorization": f"Token {token}"}}

    def _own_user_model(self) -> None:
        people = self.folder / "people"
        (people / "migrations").mkdir(parents=True)
        (people / "__init__.py").touch()
        (people / "migrations" / "__init__.py").touch()
        (people / "models.py").write_text(UUID_USER)
        self._append("settings.py", 'INSTALLED_APPS += ["people"]\n')
        self._append("settings.py", 'AUTH_USER_MODEL = "people.Person"\n')

    def _append(self, name: str, text: str) -> None:
        with (self.folder / "clinic" / name).open("a") as file:
            file.write(text)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(self.python), *arguments],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(params=["stock", "uuid"])
def site(request, environment, tmp_path):
    package, python = environment
    site = ClinicsSite(tmp_path, package, python, request.param)
    site.prepare()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    server = subprocess.Popen(
        [str(python), "manage.py", "runserver", "--noreload", address],
        cwd=tmp_path,
        env=site.variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        site.url = f"http://{address}"
        _wait_for(site.url)
        yield package, site
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait_for(url):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            httpx.get(f"{url}/admin/login/")
            return
        time.sleep(0.1)
    raise AssertionError("The site has not come up.")


def audit(ask):
    written = ask("ada", "POST", "audit-logs/", 201, json=ENTRY).json()
    assert written["ip_address"] == "127.0.0.1"
    ask("ada", "GET", "audit-logs/", 403)
    listed = ask("root", "GET", "audit-logs/", 200, params={"user_id": written["user_id"]}).json()
    assert [entry["id"] for entry in listed["results"]] == [written["id"]]


def analytics(ask):
    assert ask("ada", "GET", "users/me/activity/", 200).json()["recent_uploads"] == []
    ask("ada", "GET", "analytics/", 403)
    figures = ask("root", "GET", "analytics/", 200, params={"days": 7}).json()
    assert len(figures["user_activity"]["daily_uploads"]) == 7


def notifications(ask):
    path = "users/me/notifications/"
    assert ask("ada", "GET", path, 200).json()["system_alerts"] is False
    ask("ada", "PATCH", path, 200, json={"system_alerts": True})
    assert ask("ada", "GET", path, 200).json()["system_alerts"] is True
    ask("ada", "PATCH", path, 400, json={"system_alerts": "yes"})


EXERCISES = {"audit": audit, "analytics": analytics, "notifications": notifications}


def test_a_clinics_own_site_serves_the_package_and_its_admin(site):
    package, clinic = site
    known = {name: clinic.credentials(name) for name in ("ada", "root")}

    def ask(name, method, path, status, **options):
        answer = httpx.request(method, f"{clinic.url}/api/{path}", **known[name], **options)
        assert answer.status_code == status, answer.text
        if status >= 400:
            assert set(answer.json()) == {"detail", "code", "field_errors"}
        return answer

    EXERCISES[package](ask)
    _admin_works(clinic, package)


def _admin_works(clinic, package):
    with httpx.Client(base_url=clinic.url, follow_redirects=True) as browser:
        browser.get("/admin/login/")
        form = {
            "username": "root",
            "password": PASSWORD,
            "csrfmiddlewaretoken": browser.cookies["csrftoken"],
        }
        index = browser.post("/admin/login/?next=/admin/", data=form)
        assert index.status_code == 200
        links = set(index.text.split('"')) & {
            part
            for part in index.text.split('"')
            if part.startswith(f"/admin/myometrics_{package}/")
        }
        assert len(links) >= 2
        for link in links:
            assert browser.get(link).status_code == 200, link
