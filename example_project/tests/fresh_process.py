"""Settings of the site for a given environment, read in a new Python process."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
GOOD = {"SECRET_KEY": "k" * 50, "DEBUG": "false", "DATABASE_URL": "sqlite:///:memory:"}
"""The minimal environment of the site."""
SECRET = secrets.token_urlsafe(50)
PRODUCTION = {
    "DEBUG": "false",
    "SECRET_KEY": SECRET,
    "AUDIT_KEYS": f"first:{secrets.token_hex(32)}",
    "ALLOWED_HOSTS": "api.clinic.example",
    "DATABASE_URL": "postgresql://site:password@database/site",
    "REDIS_URL": "redis://redis:6379/0",
    "FRONTEND_URL": "https://clinic.example",
    "DJANGO_API_URL": "https://api.clinic.example/api",
    "CORS_ALLOWED_ORIGINS": "https://clinic.example",
    "EMAIL_HOST": "smtp.clinic.example",
    "SECURE_SSL_REDIRECT": "true",
    "SECURE_HSTS_SECONDS": "31536000",
    "SECURE_HSTS_INCLUDE_SUBDOMAINS": "true",
    "SECURE_HSTS_PRELOAD": "true",
    "SECURE_COOKIES": "true",
    "BEHIND_TLS_PROXY": "true",
}
"""A complete production environment."""
SHOW = """
import django
django.setup()
from django.conf import settings
for name in {names!r}:
    print(repr(getattr(settings, name)))
"""


def python(code, environment):
    """The finished process that ran ``code``."""
    return _run(["-c", code], environment)


def shown(environment, *names):
    """The settings ``names`` with ``environment`` added to ``GOOD``."""
    done = python(SHOW.format(names=names), {**GOOD, **environment})
    assert done.returncode == 0, done.stderr
    return [eval(line) for line in done.stdout.splitlines()]


def deploy_check(environment):
    """The finished ``check --deploy``; warnings make it fail."""
    return manage(environment, "check", "--deploy", "--fail-level", "WARNING")


def manage(environment, *command):
    """The finished management command."""
    return _run(["manage.py", *command], environment)


def _run(arguments, environment):
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env={**inherited, "DJANGO_SETTINGS_MODULE": "config.settings", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
