"""The composed site; beat looks for due jobs every second."""

from long_timeout_settings import *  # noqa: F403

from myometrics_core.beat import beat_schedule

CELERY_BEAT_SCHEDULE = {name: {**entry, "schedule": 1.0} for name, entry in beat_schedule.items()}
