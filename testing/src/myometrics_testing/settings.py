"""Django settings for testing one package in a third-party site."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import dj_database_url

from myometrics_testing.waiting import PATIENCE

CUSTOM_USER = "clinic_site.Person"

DJANGO_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def package_settings(apps: Sequence[str], urls: str, **overrides: Any) -> dict[str, Any]:
    """Return all settings of a stock Django site that embeds only ``apps`` and core.

    ``apps``: entries for INSTALLED_APPS besides core. ``urls``: the root urlconf. ``overrides``:
    settings that replace the defaults; unless ``AUTH_USER_MODEL`` is among them, users are
    :class:`myometrics_testing.clinic_site.models.Person`.
    """
    settings = {
        "SECRET_KEY": "only-for-tests-" + "x" * 50,
        "ALLOWED_HOSTS": ["*"],
        "ROOT_URLCONF": urls,
        "MIDDLEWARE": list(MIDDLEWARE),
        "TEMPLATES": TEMPLATES,
        "DATABASES": {"default": database_from_environment()},
        "AUTH_USER_MODEL": CUSTOM_USER,
        "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
        "USE_TZ": True,
        "TIME_ZONE": "Europe/Berlin",
        "STATIC_URL": "/static/",
        "CELERY_BROKER_URL": "memory://",
        "CELERY_BROKER_TRANSPORT_OPTIONS": {"polling_interval": 0.01},  # seconds
        "CELERY_RESULT_BACKEND": "cache+memory://",
        # A worker in the test process must not redirect the log away from caplog.
        "CELERY_WORKER_HIJACK_ROOT_LOGGER": False,
        **overrides,
    }
    settings.setdefault("INSTALLED_APPS", _installed_apps(apps, settings["AUTH_USER_MODEL"]))
    if find_spec("celery"):
        import_module("myometrics_testing.celery")
    return settings


def _installed_apps(apps: Sequence[str], user_model: str) -> list[str]:
    site = ["myometrics_testing.clinic_site"] if user_model == CUSTOM_USER else []
    ours = dict.fromkeys(["myometrics_core", *apps])
    return [*DJANGO_APPS, "rest_framework", *site, *ours]


def database_from_environment() -> dict[str, Any]:
    """Return the entry of DATABASES for ``DATABASE_URL``, which the pytest plugin sets.

    On SQLite the test database is a file, so that threads and processes share it; the timeout for
    locked writes suits a machine under load. On PostgreSQL repeated statements are prepared, as in
    production.
    """
    database: dict[str, Any] = dict(
        dj_database_url.parse(os.environ.get("DATABASE_URL", "sqlite://:memory:"))
    )
    if database["ENGINE"].endswith("sqlite3") and database["NAME"] != ":memory:":
        database["OPTIONS"] = {"timeout": PATIENCE, **database.get("OPTIONS", {})}
        database["TEST"] = {"NAME": f"{database['NAME']}.test"}
    if database["ENGINE"].endswith("postgresql"):
        database["OPTIONS"] = {"prepare_threshold": 2, **database.get("OPTIONS", {})}
    return database
