"""The site in production mode: real processes, its own database, mail in a folder."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from email import message_from_bytes, policy
from pathlib import Path

import httpx
import psycopg

from myometrics_testing.services import free_port
from myometrics_testing.waiting import PATIENCE, wait_for

PROJECT = Path(__file__).resolve().parent.parent
UNITS = PROJECT.parent / "docs/operations/systemd"
DROPPED = {"JOB_RUNNER", "ENVIRONMENT_FILE"}
ADMIN, PASSWORD = "root@clinic.example", "correct-horse-battery"
LONG_TIMEOUTS = {
    "DJANGO_SETTINGS_MODULE": "long_timeout_settings",
    "PYTHONPATH": str(PROJECT / "tests"),
}
"""Variables of a site with timeouts for a busy machine."""


def unit_commands():
    """Name → command line of every process of the site, as its systemd unit starts it."""
    units = {"web": "myometrics-web@", "worker": "myometrics-worker", "beat": "myometrics-beat"}
    commands = {}
    for name, unit in units.items():
        text = (UNITS / f"{unit}.service").read_text()
        program, *arguments = shlex.split(text.partition("ExecStart=")[2].partition("\n")[0])
        commands[name] = [Path(program).name, *arguments]
    return commands


class RunningSite:
    """The processes of the systemd units; without a broker the web server alone."""

    def __init__(self, folder, database_url, redis_url):
        self.folder = folder
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in DROPPED},
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "DEBUG": "false",
            "SECRET_KEY": secrets.token_urlsafe(50),
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url or "",
            "EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
            "EMAIL_FILE_PATH": str(folder / "mail"),
            "ALLOWED_HOSTS": "localhost",
            "LOG_LEVEL": "INFO",
            "DATA_DIR": str(folder),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "2",
            "WEB_THREADS": "4",
            "WORKER_CONCURRENCY": "1",
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._log = (folder / "site.log").open("ab")

    def start(self):
        """Migrate, start every process, wait until the site is ready."""
        self.manage("migrate", "--verbosity=0")
        for name in unit_commands() if self.has_broker else ["web"]:
            self.run(name)
        self.wait_until_ready()

    def stop(self):
        """Stop every process, by force if necessary."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=30)
            process.kill()
            process.wait()
        self._log.close()

    def manage(self, *arguments):
        """The output of a management command."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def make_administrator(self):
        """Create ``ADMIN`` with ``createsuperuser --noinput``."""
        self.environment |= {
            "DJANGO_SUPERUSER_EMAIL": ADMIN,
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
        }
        self.manage("createsuperuser", "--noinput")

    def sign_in(self):
        """An access token of the administrator."""
        answer = self.post_login()
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access"])

    def post_login(self):
        """The response to the administrator's login."""
        body = {"email": ADMIN, "password": PASSWORD}
        return httpx.post(f"{self.url}/api/auth/login/", json=body, timeout=PATIENCE)

    def request(self, access, method, path, body=None):
        """The API's response to the owner of the token ``access``."""
        headers = {"Authorization": f"Bearer {access}"}
        url = f"{self.url}/api{path}"
        return httpx.request(method, url, json=body, headers=headers, timeout=PATIENCE)

    def get(self, path, **headers):
        """The site's response at ``path`` to an anonymous client."""
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=PATIENCE)

    def wait_until_ready(self):
        """Wait for ``/readyz``; on timeout, fail with the log."""
        wait_for(self._is_ready, log=lambda: self.log)

    def mail_to(self, address, count=1):
        """The texts of the mails to ``address`` once there are ``count`` of them."""
        return wait_for(lambda: self._at_least(count, address), log=lambda: self.log)

    def mails_to(self, address):
        """The texts of the mails sent to ``address`` so far."""
        return [text for to, text in self._mails() if to == address]

    @property
    def has_broker(self):
        """Whether tasks go to a worker."""
        return any(self.environment.get(name) for name in ("REDIS_URL", "CELERY_BROKER_URL"))

    @property
    def log(self):
        """The output of all processes."""
        return (self.folder / "site.log").read_text()

    def _is_ready(self):
        with suppress(httpx.TransportError):
            return self.get("/readyz").status_code == 200
        return False

    def _at_least(self, count, address):
        found = self.mails_to(address)
        return found if len(found) >= count else []

    def _mails(self):
        for path in (self.folder / "mail").glob("*.log"):
            for raw in re.split(rb"\n-{79}\n", path.read_bytes()):
                message = message_from_bytes(raw, policy=policy.default)
                body = message.get_body(("plain",)) if message["To"] else None
                if body is not None:
                    yield message["To"], body.get_content()

    def run(self, name):
        """Start the process ``name``: ``web``, ``worker`` or ``beat``."""
        program, *arguments = unit_commands()[name]
        self.processes[name] = subprocess.Popen(
            [str(Path(sys.executable).parent / program), *arguments],
            cwd=PROJECT,
            env=self.environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )


@contextmanager
def database_beside(url):
    """The URL of a new database on the PostgreSQL server of ``url``, dropped at the end."""
    name = f"site_{secrets.token_hex(4)}"
    base, _, query = url.partition("?")
    server, options = base.rpartition("/")[0], f"?{query}" if query else ""
    # Connects to ``postgres``: the database in the URL may not exist.
    with psycopg.connect(f"{server}/postgres{options}", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        yield f"{server}/{name}{options}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]
