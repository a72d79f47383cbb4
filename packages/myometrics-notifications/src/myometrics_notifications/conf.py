"""The settings of this package: the dictionary ``MYOMETRICS_NOTIFICATIONS``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from myometrics_core.conf import DOTTED_PATH, Setting, SettingsGroup, positive

__all__ = ["NotificationsSettings", "notifications_settings"]


KIND_NAMES = ("record_opened",)
"""Values of ``ADDITIONAL_KINDS``."""


def _kind_names(value: list[Any]) -> None:
    if any(one not in KIND_NAMES for one in value):
        raise ValueError(f"may contain {', '.join(KIND_NAMES)}")


class NotificationsSettings(SettingsGroup):
    """Settings of the notifications package."""

    name = "MYOMETRICS_NOTIFICATIONS"
    app = "myometrics_notifications"
    renamed: ClassVar = {"SMTP_TIMEOUT": "MYOMETRICS['SMTP_TIMEOUT']"}

    FROM_EMAIL = Setting(
        str, None, "Sender of the mails; without it Django's `DEFAULT_FROM_EMAIL`."
    )
    SITE_NAME = Setting(str, "MyoMetrics", "Name of the site in mails.")
    ADDITIONAL_KINDS = Setting(
        list,
        [],
        "Kinds of notification that the site adds, read when it starts: `record_opened` (a user "
        "outside the care team opened the recipient's record; needs the app "
        "`myometrics_audit.access_report`).",
        validate=_kind_names,
    )
    RECIPIENT_LANGUAGE = Setting(
        DOTTED_PATH,
        "myometrics_core.users.site_language",
        "Function of a user that returns the language code of their mails.",
    )
    RECIPIENT_TIME_ZONE = Setting(
        DOTTED_PATH,
        "myometrics_core.users.site_time_zone",
        "Function of a user that returns the name of the time zone for times in their mails.",
    )
    IGNORE_OLDER_THAN = Setting(
        timedelta,
        timedelta(days=1),
        "Older events are ignored, so that a replay of past events sends no mails.",
        validate=positive,
    )
    LEASE = Setting(
        timedelta,
        timedelta(minutes=5),
        "How long a worker's claim on a message lasts; after that, the worker counts as killed.",
        validate=positive,
    )
    MAX_ATTEMPTS = Setting(
        int,
        20,
        "Attempts after which a message is a dead letter (20: after some two days).",
        validate=positive,
    )
    RETRY_BASE = Setting(
        timedelta,
        timedelta(seconds=30),
        "Longest pause after the first failure; it doubles with each further one.",
        validate=positive,
    )
    RETRY_CAP = Setting(
        timedelta, timedelta(hours=6), "Longest pause between two attempts.", validate=positive
    )
    SERVER_PAUSE = Setting(
        timedelta,
        timedelta(seconds=30),
        "How long a worker process begins no deliveries after the whole mail server has failed.",
        validate=positive,
    )
    MAILS_PER_USER_PER_HOUR = Setting(
        int,
        20,
        "Notification mails that one user gets within an hour; the rest is mailed as one summary. "
        "Exports and other responses to a user's own request don't count.",
        validate=positive,
    )
    KEEP_SENT = Setting(
        timedelta,
        timedelta(days=30),
        "How long a sent or dropped message stays in the outbox; until then, its event can't "
        "queue a second one.",
        validate=positive,
    )
    KEEP_DEAD = Setting(
        timedelta, timedelta(days=90), "How long a dead letter stays.", validate=positive
    )
    EXPORT_LIFETIME = Setting(
        timedelta,
        timedelta(days=2),
        "How long an export file and its link are valid.",
        validate=positive,
    )
    EXPORT_STORAGE = Setting(
        str,
        "default",
        "Alias in `STORAGES` for export files; choose a storage that is not public.",
    )
    EXPORT_LEASE = Setting(
        timedelta,
        timedelta(minutes=30),
        "How long a worker's claim on an export lasts (its task has a shorter time limit).",
        validate=positive,
    )


notifications_settings = NotificationsSettings()
"""``MYOMETRICS_NOTIFICATIONS`` with its defaults; values are read at each access."""
