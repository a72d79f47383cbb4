"""The one entry that a site with Celery adds to its ``beat_schedule``."""

from __future__ import annotations

from typing import Any

__all__ = ["beat_schedule"]

beat_schedule: dict[str, dict[str, Any]] = {
    "myometrics_core.run_jobs": {
        "task": "myometrics_core.run_jobs",
        "schedule": 5.0,
        "options": {"expires": 5},
    }
}
"""Entry name → task, schedule and options, in the format of Celery's ``beat_schedule``."""
