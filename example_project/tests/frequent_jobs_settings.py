"""The composed site; beat sends each interval task every second."""

from long_timeout_settings import *  # noqa: F403

CELERY_BEAT_SCHEDULE = {
    name: {**entry, "schedule": 1.0} if isinstance(entry["schedule"], float) else entry
    for name, entry in globals()["CELERY_BEAT_SCHEDULE"].items()
}
