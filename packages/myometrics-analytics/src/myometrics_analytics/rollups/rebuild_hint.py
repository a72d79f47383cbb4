"""Hint after ``migrate`` when analytics is added to a site with recorded events."""

from __future__ import annotations

import sys
from typing import Any

from django.apps import AppConfig
from django.db import DEFAULT_DB_ALIAS, DatabaseError, transaction
from django.db.models.signals import post_migrate

from myometrics_core.events import replay_events

__all__ = ["connect_hint"]

FIRST_MIGRATION = ("myometrics_analytics", "0001_initial")
HINT = (
    "Uploads from before analytics was added are not counted yet. To count them, run:\n"
    "  manage.py analytics_rebuild\n"
)


def connect_hint(app: AppConfig) -> None:
    """Print a hint about ``analytics_rebuild`` after ``migrate`` of ``app``."""
    post_migrate.connect(_hint, sender=app, dispatch_uid="myometrics_analytics:hint")


def _hint(using: str, verbosity: int, plan: Any = (), **kwargs: Any) -> None:
    steps = {(step.app_label, step.name) for step, is_backwards in plan if not is_backwards}
    if FIRST_MIGRATION not in steps or using != DEFAULT_DB_ALIAS or verbosity < 1:
        return
    if _has_past_events():
        (kwargs.get("stdout") or sys.stdout).write(HINT)


def _has_past_events() -> bool:
    """Return whether any source has events to replay, or can't be queried yet."""
    try:
        with transaction.atomic():
            return next(iter(replay_events()), None) is not None
    except DatabaseError:
        return True
