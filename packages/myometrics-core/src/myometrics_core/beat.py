"""Core's periodic tasks; merge them into the site's ``beat_schedule``."""

from __future__ import annotations

from typing import Any

__all__ = ["beat_schedule"]

beat_schedule: dict[str, dict[str, Any]] = {
    "myometrics_core.check_health": {
        "task": "myometrics_core.check_health",
        "schedule": 20.0,
        "options": {"expires": 20},
    },
}
"""Entry name → task, schedule and options, in the format of Celery's ``beat_schedule``."""
