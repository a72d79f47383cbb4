"""Settings that are valid but unsafe in production: reported by ``check --deploy`` and at start."""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import connection

from myometrics_core.mail import default_mail_backend_path

logger = logging.getLogger("config.checks")


def check_production(**kwargs: Any) -> list[checks.CheckMessage]:
    """W001 SQLite, W002 no Redis, W003 no mail delivery."""
    found = {
        "W001": (
            connection.vendor == "sqlite",
            "SQLite serves one machine and one writer at a time.",
            "Set DATABASE_URL to a PostgreSQL server.",
        ),
        "W002": (
            not settings.REDIS_URL,
            "Without Redis, rate limits cost the database a write for each request"
            + ("." if settings.BROKER_URL else ", and jobs run in threads of the server."),
            "Set REDIS_URL, and run a worker and a beat (docs/operations/systemd).",
        ),
        "W003": (
            str(default_mail_backend_path()).endswith("console.EmailBackend"),
            "Mail is written to the console, not delivered.",
            "Set EMAIL_HOST.",
        ),
    }
    return [
        checks.Warning(message, hint=hint, id=f"config.{number}")
        for number, (is_so, message, hint) in found.items()
        if is_so
    ]


def log_warnings() -> None:
    """Log the warnings of ``check --deploy`` about security and tracing, unless in DEBUG."""
    if settings.DEBUG:
        return
    for message in checks.run_checks(tags=["security", "tracing"], include_deployment_checks=True):
        if not message.is_silenced():
            logger.warning("%s: %s", message.id, message.msg, extra={"hint": message.hint})
