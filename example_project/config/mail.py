"""The variables of mail as Django's settings: ``MAILERS`` from Django 6.1 on, else ``EMAIL_*``."""

from __future__ import annotations

from typing import Any

import django

from .environment import env, from_file

BACKEND = "django.core.mail.backends.{}.EmailBackend"
WITHOUT_OPTIONS = {BACKEND.format(name) for name in ("console", "dummy", "locmem")}
TIMEOUT = 10
"""Seconds."""


def mail_settings() -> dict[str, Any]:
    """Return Django's settings for the mail transport and the sender."""
    host, user = env.str("EMAIL_HOST", ""), env.str("EMAIL_HOST_USER", "")
    port = env.whole_number("EMAIL_PORT", "587")
    options = {
        "host": host,
        "port": port,
        "username": user,
        "password": env.str("EMAIL_HOST_PASSWORD", from_file("EMAIL_HOST_PASSWORD")),
        "use_tls": env.switch("EMAIL_USE_TLS", "true" if port == 587 else "false"),
        "use_ssl": env.switch("EMAIL_USE_SSL", "true" if port == 465 else "false"),
        "timeout": TIMEOUT,
    }
    backend = env.str("EMAIL_BACKEND", "") or BACKEND.format("smtp" if host else "console")
    file_path = env.str("EMAIL_FILE_PATH", "") or None
    sender = env.str("DEFAULT_FROM_EMAIL", "") or user or "noreply@localhost"
    return {"DEFAULT_FROM_EMAIL": sender, **_transport(backend, options, file_path)}


def _transport(backend: str, options: dict[str, Any], file_path: str | None) -> dict[str, Any]:
    if django.VERSION < (6, 1):
        return {
            "EMAIL_BACKEND": backend,
            "EMAIL_FILE_PATH": file_path,
            "EMAIL_HOST": options["host"],
            "EMAIL_PORT": options["port"],
            "EMAIL_HOST_USER": options["username"],
            "EMAIL_HOST_PASSWORD": options["password"],
            "EMAIL_USE_TLS": options["use_tls"],
            "EMAIL_USE_SSL": options["use_ssl"],
            "EMAIL_TIMEOUT": options["timeout"],
        }
    if backend in WITHOUT_OPTIONS:
        options = {}
    elif backend == BACKEND.format("filebased"):
        options = {"file_path": file_path}
    return {"MAILERS": {"default": {"BACKEND": backend, "OPTIONS": options}}}
