"""Celery beat schedule of the purge; merge it into the site's ``beat_schedule``."""

from __future__ import annotations

from typing import Any

__all__ = ["beat_schedule"]

beat_schedule: dict[str, dict[str, Any]] = {
    "myometrics_core.purge_accesses": {
        "task": "myometrics_core.purge_accesses",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
}
"""Entry name → task, schedule and options, in the format of Celery's ``beat_schedule``."""
