"""Celery beat schedule of analytics; merge it into the site's ``beat_schedule``."""

from __future__ import annotations

from typing import Any

from celery.schedules import crontab

__all__ = ["beat_schedule"]

beat_schedule: dict[str, dict[str, Any]] = {
    "myometrics_analytics.fold": {
        "task": "myometrics_analytics.fold",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
    "myometrics_analytics.pull": {
        "task": "myometrics_analytics.pull",
        "schedule": 15.0,
        "options": {"expires": 15},
    },
    "myometrics_analytics.check": {
        "task": "myometrics_analytics.check",
        "schedule": crontab(hour=3, minute=17),
        "options": {"expires": 3600},
    },
}
"""Entries in the format of Celery's ``beat_schedule``: name → task, schedule and options."""
