"""A third-party site: ``django-admin startproject`` with a few lines more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from myometrics_testing.services import free_port
from myometrics_testing.waiting import PATIENCE, wait_for

PASSWORD = "correct-horse-battery"
QUICK_HASHER = "django.contrib.auth.hashers.MD5PasswordHasher"
SETUP = Path(__file__).with_name("operator_setup.py")


class ThirdPartySite:
    """A bare site in ``folder``, run by ``python``; ``library``: a folder of the host's own."""

    def __init__(self, folder, python, library=None):
        self.folder, self.python = folder, python
        self.url = ""
        self.variables = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        if library:
            self.variables["PYTHONPATH"] = str(library)
        self._run("-m", "django", "startproject", "clinic", ".")

    def write(self, name, text):
        """Append ``text`` to the file ``name`` of the site."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"{text}\n")

    def take(self, package, *more):
        """Add the few lines that the quickstart of ``package`` asks for."""
        ours = ["rest_framework", "myometrics_core", *more, f"myometrics_{package}"]
        self.write("clinic/settings.py", f"INSTALLED_APPS += {ours!r}")
        self.write("clinic/urls.py", "from django.urls import include")
        route = f'path("api/", include("myometrics_{package}.urls"))'
        self.write("clinic/urls.py", f"urlpatterns += [{route}]")

    def hash_quickly(self):
        """Use a fast password hasher."""
        self.write("clinic/settings.py", f"PASSWORD_HASHERS = [{QUICK_HASHER!r}]")

    def own_user_model(self, source):
        """``people.Person``, as the module ``source`` defines it, is the user model."""
        self.write("people/__init__.py", "")
        self.write("people/migrations/__init__.py", "")
        self.write("people/models.py", source)
        self.write("clinic/settings.py", 'INSTALLED_APPS += ["people"]')
        self.write("clinic/settings.py", 'AUTH_USER_MODEL = "people.Person"')

    def prepare(self, users):
        """Check, migrate, run the code ``users``; return the output of ``operator_setup``."""
        shutil.copy(SETUP, self.folder)
        return json.loads(self._run(SETUP.name, given=users).splitlines()[-1])

    def manage(self, *arguments):
        """The output of a management command."""
        return self._run("manage.py", *arguments)

    def refused(self, *arguments):
        """The output of a management command that must fail."""
        done = self._done("manage.py", *arguments)
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr

    @contextmanager
    def served(self):
        """Serve the site at ``url``."""
        address = f"127.0.0.1:{free_port()}"
        command = [str(self.python), "manage.py", "runserver", "--noreload", address]
        self.url = f"http://{address}"
        log = self.folder / "server.log"
        with log.open("w") as output:
            server = subprocess.Popen(
                command, cwd=self.folder, env=self.variables, stdout=output, stderr=output
            )
        try:
            wait_for(lambda: _is_served(f"{self.url}/admin/login/", server), log=log.read_text)
            yield self
        finally:
            server.terminate()
            server.wait(timeout=PATIENCE)

    def asking(self, **known):
        """A function that sends requests with the options ``known`` and checks the status."""

        def ask(method, path, status, **options):
            options = {"timeout": PATIENCE, **known, **options}
            answer = httpx.request(method, f"{self.url}/api/{path}", **options)
            assert answer.status_code == status, f"{method} {path}: {answer.text}"
            if status >= 400:
                assert set(answer.json()) == {"detail", "code", "field_errors"}
            return answer

        return ask

    def _run(self, *arguments, given=""):
        done = self._done(*arguments, given=given)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _done(self, *arguments, given=""):
        return subprocess.run(
            [str(self.python), *arguments],
            cwd=self.folder,
            env=self.variables,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )


class AdminSession:
    """A browser that is signed in to the admin site as ``name``: a session and its CSRF token."""

    def __init__(self, site, name):
        self.http = httpx.Client(base_url=site.url, follow_redirects=True, timeout=PATIENCE)
        self.http.get("/admin/login/")
        form = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": self._csrf()}
        self.index = self.http.post("/admin/login/?next=/admin/", data=form)
        assert self.index.status_code == 200
        assert "/admin/logout/" in self.index.text

    def request(self, method, path, status, **options):
        """The answer of the API to the session, which has ``status``."""
        headers = {"X-CSRFToken": self._csrf()}
        answer = self.http.request(method, f"/api/{path}", headers=headers, **options)
        assert answer.status_code == status, answer.text
        return answer

    def visit_all(self, app):
        """Open every page of ``app`` that the index links to; their number."""
        links = {part for part in self.index.text.split('"') if part.startswith(f"/admin/{app}/")}
        for link in links:
            assert self.http.get(link).status_code == 200, link
        return len(links)

    def _csrf(self):
        return self.http.cookies["csrftoken"]


def _is_served(url, server):
    assert server.poll() is None, "the server has ended"
    with suppress(httpx.TransportError):
        httpx.get(url, timeout=PATIENCE)
        return True
    return False
