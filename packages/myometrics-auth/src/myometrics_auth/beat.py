"""Entries for the site's Celery beat schedule."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["beat_schedule"]

beat_schedule: Final[dict[str, dict[str, Any]]] = {
    "myometrics_auth.sweep_password_resets": {
        "task": "myometrics_auth.sweep_password_resets",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "myometrics_auth.sweep": {
        "task": "myometrics_auth.sweep",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
}
"""Maps entry names to task, schedule and options, in the format of Celery's ``beat_schedule``."""
