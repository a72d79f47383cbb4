"""Celery beat entries of this package, to be merged into the site's schedule."""

from __future__ import annotations

from typing import Any

__all__ = ["beat_schedule"]

beat_schedule: dict[str, dict[str, Any]] = {
    "myometrics_notifications.sweep": {
        "task": "myometrics_notifications.sweep",
        "schedule": 30.0,
        "options": {"expires": 30},
    },
    "myometrics_notifications.purge": {
        "task": "myometrics_notifications.purge",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "myometrics_notifications.sweep_exports": {
        "task": "myometrics_notifications.sweep_exports",
        "schedule": 600.0,
        "options": {"expires": 600},
    },
}
"""Name of the entry → task, schedule and options, as Celery's ``beat_schedule`` takes them."""
