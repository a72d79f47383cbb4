"""The settings of this package: the dictionary ``MYOMETRICS_NOTIFICATIONS``."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from myometrics_core.conf import DOTTED_PATH, Setting, SettingsGroup, positive

__all__ = ["NotificationsSettings", "notifications_settings"]


class NotificationsSettings(SettingsGroup):
    """Settings of the notifications package."""

    name = "MYOMETRICS_NOTIFICATIONS"
    app = "myometrics_notifications"
    renamed: ClassVar = {"SMTP_TIMEOUT": "MYOMETRICS['SMTP_TIMEOUT']"}

    FROM_EMAIL = Setting(
        str, None, "Sender of the mails; without it Django's `DEFAULT_FROM_EMAIL`."
    )
    SITE_NAME = Setting(str, "MyoMetrics", "What the mails call the site.")
    RECIPIENT_LANGUAGE = Setting(
        DOTTED_PATH,
        "myometrics_core.users.site_language",
        "Function of a user: the language code of the mails to them.",
    )
    RECIPIENT_TIME_ZONE = Setting(
        DOTTED_PATH,
        "myometrics_core.users.site_time_zone",
        "Function of a user: the name of the time zone of the times in the mails to them.",
    )
    IGNORE_OLDER_THAN = Setting(
        timedelta,
        timedelta(days=1),
        "Activities older than this are not written about, so that a replay of history "
        "mails nobody.",
        validate=positive,
    )
    LEASE = Setting(
        timedelta,
        timedelta(minutes=5),
        "How long a message belongs to the worker that took it; after that, it counts as killed.",
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
        "How long a worker process leaves a mail server alone that failed as a whole; the sweep "
        "still tries it.",
        validate=positive,
    )
    SWEEP_SECONDS = Setting(
        (int, float), 45, "Seconds after which one sweep stops taking messages.", validate=positive
    )
    MAILS_PER_USER_PER_HOUR = Setting(
        int,
        20,
        "Notification mails that one user gets within an hour; one summary stands for the rest. "
        "Exports and other answers to a user's own request don't count.",
        validate=positive,
    )
    KEEP_SENT = Setting(
        timedelta,
        timedelta(days=30),
        "How long a sent or dropped message stays in the outbox; as long, its cause can't send "
        "a second one.",
        validate=positive,
    )
    KEEP_DEAD = Setting(
        timedelta, timedelta(days=90), "How long a dead letter stays.", validate=positive
    )
    EXPORT_LIFETIME = Setting(
        timedelta,
        timedelta(days=2),
        "How long an export file, and the link to it, lasts.",
        validate=positive,
    )
    EXPORT_STORAGE = Setting(
        str,
        "default",
        "Alias in `STORAGES` where export files are kept: best one that is not served.",
    )
    EXPORT_LEASE = Setting(
        timedelta,
        timedelta(minutes=30),
        "How long an export belongs to the worker that writes it (its task is ended before).",
        validate=positive,
    )


notifications_settings = NotificationsSettings()
"""``MYOMETRICS_NOTIFICATIONS`` with its defaults; values are read at each access."""
