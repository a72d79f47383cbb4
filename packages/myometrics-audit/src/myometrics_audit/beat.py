"""The schedule of audit's background tasks: merge it into the site's ``beat_schedule``."""

from __future__ import annotations

from typing import Any

__all__ = ["beat_schedule"]

beat_schedule: dict[str, dict[str, Any]] = {
    "myometrics_audit.seal": {
        "task": "myometrics_audit.seal",
        "schedule": 10.0,
        "options": {"expires": 10},
    }
}
"""Name of the entry → task, schedule and options, in the format of Celery's ``beat_schedule``."""
