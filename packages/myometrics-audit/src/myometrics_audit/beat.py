"""When audit's background work runs: merge it into the site's ``beat_schedule``."""

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
"""Name of the entry → task, schedule and options, as Celery's ``beat_schedule`` takes them."""
