"""Hint after ``migrate`` when analytics is added to a site with recorded events."""

from __future__ import annotations

import logging
import sys
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DatabaseError, transaction

from myometrics_core.events import replay_events

logger = logging.getLogger("myometrics.analytics")

FIRST_MIGRATION = ("myometrics_analytics", "0001_initial")
HINT = (
    "Uploads from before analytics was added are not counted yet. To count them, run:\n"
    "  manage.py analytics_rebuild\n"
)


def print_hint(using: str, verbosity: int, plan: Any = (), **kwargs: Any) -> None:
    """Print a hint about ``analytics_rebuild`` if any source has events to replay.

    Receiver of ``post_migrate``.
    """
    steps = {(step.app_label, step.name) for step, is_backwards in plan if not is_backwards}
    if FIRST_MIGRATION not in steps or using != DEFAULT_DB_ALIAS or verbosity < 1:
        return
    try:
        with transaction.atomic():
            if next(iter(replay_events()), None) is None:
                return
    except DatabaseError as error:  # such as a source whose table is not migrated yet
        logger.info("Recorded events can't be read yet: %s", type(error).__name__)
    (kwargs.get("stdout") or sys.stdout).write(HINT)
