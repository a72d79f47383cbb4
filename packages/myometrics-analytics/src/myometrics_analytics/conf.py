"""The settings of this package: the dictionary ``MYOMETRICS_ANALYTICS``."""

from __future__ import annotations

from myometrics_core.conf import (
    DOTTED_PATH,
    Setting,
    SettingsGroup,
    core_settings,
    http_url,
    positive,
)

__all__ = ["AnalyticsSettings", "analytics_settings"]


def _seconds(default: int, description: str) -> Setting:
    return Setting((int, float), default, description, validate=positive)


class AnalyticsSettings(SettingsGroup):
    """Settings of analytics."""

    name = "MYOMETRICS_ANALYTICS"
    app = "myometrics_analytics"

    CLINIC_FIELD = Setting(
        str,
        "clinic_name",
        "Field of the user model itself that holds the clinic, for the filter `clinic`. Without "
        "such a field the filter is refused.",
    )
    ROLE_FIELD = Setting(
        str, "role", "Field of the user model that holds the role, for the filter `role`."
    )
    UPLOAD_SOURCE = Setting(
        DOTTED_PATH,
        "myometrics_analytics.pull.ImageService",
        "Class of the service that uploads are pulled from; see `UploadSource`.",
    )
    IMAGE_SERVICE_URL = Setting(
        str,
        None,
        "Base URL of the image service; by default `MYOMETRICS['MICROSERVICE_URL']`. "
        "Without either nothing is pulled.",
        validate=http_url,
    )
    PULL_INTERVAL = _seconds(60, "Seconds from one successful pull to the next.")
    PULL_TIMEOUT = _seconds(
        10,
        "Seconds to wait for the connection to the image service, and for each chunk of its "
        "response.",
    )
    PULL_DEADLINE = _seconds(300, "Seconds that a whole pull may take.")
    PULL_RETRY_DELAY = _seconds(
        15,
        "Seconds from a failed pull to the next, doubled with each further failure; up to half of "
        "it is subtracted at random.",
    )
    PULL_RETRY_DELAY_MAX = _seconds(
        900, "Maximum of PULL_RETRY_DELAY after several failures, in seconds."
    )
    PULL_COMPLETE_EVERY = _seconds(
        86400,
        "Seconds after which a pull is unconditional again, so that uploads of users who were "
        "added later are counted.",
    )
    FOLD_BATCH = Setting(
        int, 5000, "Changes that one transaction folds into the rollups.", validate=positive
    )
    DIAGNOSES_SHOWN = Setting(
        int,
        200,
        "Maximum number of diagnoses in a response and in the dashboard, the most frequent first.",
        validate=positive,
    )
    UPLOADS_PER_USER_PER_DAY = Setting(
        int,
        1000,
        "New uploads first reported by a client that count for one user on one UTC day. Further "
        "ones are kept, and count once the image service or the server's own code confirms them.",
        validate=positive,
    )
    COUNT_CLIENT_REPORTED = Setting(
        bool,
        True,
        "Whether uploads count that only a client has reported. If off, only uploads count that "
        "the image service or the server's own code has reported; they are counted from the "
        "facts, not from the rollups. Takes effect at once.",
    )


analytics_settings = AnalyticsSettings()
"""``MYOMETRICS_ANALYTICS`` with defaults; not cached, so ``override_settings`` works."""


def image_service_url() -> str | None:
    """Return the base URL of the image service without trailing slash, or ``None`` if not set."""
    url = analytics_settings.IMAGE_SERVICE_URL or core_settings.MICROSERVICE_URL
    return url.rstrip("/") if url else None
