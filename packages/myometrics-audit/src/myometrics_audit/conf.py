"""The settings of audit: the dictionary ``MYOMETRICS_AUDIT``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from myometrics_core.conf import DOTTED_PATH, Setting, SettingsGroup, http_url, positive

__all__ = ["READS", "AuditSettings", "audit_settings"]

KEY_ID_LENGTH = 32
SECRET_LENGTH = 32
READS = ("exports", "users", "audit_logs", "analytics")
"""Values of ``RECORD_READS``."""


def _keys(value: Mapping[str, Any]) -> None:
    for key_id, secret in value.items():
        if not isinstance(key_id, str) or not 1 <= len(key_id) <= KEY_ID_LENGTH:
            raise ValueError(f"has the id {key_id!r}; expected text of 1 to {KEY_ID_LENGTH}")
        if not isinstance(secret, str) or len(secret) < SECRET_LENGTH:
            raise ValueError(f"needs {SECRET_LENGTH} or more characters of text for {key_id!r}")


def _batch_size(value: int) -> None:
    if not 1 <= value <= 20_000:
        raise ValueError("must be from 1 to 20000")


def _partition_size(value: int) -> None:
    if value < 1000:
        raise ValueError("must be 1000 or more")


def _agent_length(value: int) -> None:
    if not 0 <= value <= 65_536:
        raise ValueError("must be from 0 to 65536")


def _origin(value: str) -> None:
    if not value or not value.isprintable():
        raise ValueError("must be one line of printable text")


def _witnesses(value: Mapping[str, Any]) -> None:
    for key, url in value.items():
        if not isinstance(key, str) or not isinstance(url, str) or not url:
            raise ValueError("must map the text of a public key to a URL")
        http_url(url)


def minute_of_day(text: str) -> int:
    """Return the minutes from midnight to a time such as ``07:30``; ``24:00`` is 1440."""
    hours, minutes = text.split(":")
    minute = int(hours) * 60 + int(minutes)
    if len(text) != 5 or not (0 <= minute <= 1440 and 0 <= int(minutes) < 60):
        raise ValueError(f"has {text!r}; expected a time such as '07:30'")
    return minute


def _working_hours(value: Mapping[str, Any]) -> None:
    if not {"days", "from", "to"} <= set(value) <= {"days", "from", "to", "time_zone"}:
        raise ValueError("must have the keys days, from and to, and may have time_zone")
    if not set(value["days"]) <= set(range(7)):
        raise ValueError("may have the days 0 (Monday) to 6 (Sunday)")
    if minute_of_day(value["from"]) >= minute_of_day(value["to"]):
        raise ValueError("must begin before they end")
    if "time_zone" in value:
        ZoneInfo(value["time_zone"])


def _reads(value: list[Any]) -> None:
    if any(one not in READS for one in value):
        raise ValueError(f"may contain {', '.join(READS)}")


def _source(value: Mapping[str, Any]) -> None:
    known = ("application", "host", "site_id")
    if not value.keys() <= set(known) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError(f"may contain texts for {', '.join(known)}")


class AuditSettings(SettingsGroup):
    """The settings of the audit log."""

    name = "MYOMETRICS_AUDIT"
    app = "myometrics_audit"

    ON_USER_DELETE = Setting(
        str,
        "cascade",
        "What happens to a user's entries when the user is deleted: `cascade` erases them, "
        "`retain` keeps them without the user, under a random pseudonym.",
        choices=("cascade", "retain"),
    )
    KEYS = Setting(
        dict,
        {},
        "Secrets that evidence is signed with, by id, oldest first; each 32 characters or more. "
        "Never remove one that entries were written under. By default one key is derived from "
        "`SECRET_KEY`, and older ones from `SECRET_KEY_FALLBACKS`.",
        validate=_keys,
    )
    ACTIVE_KEY = Setting(
        str, None, "Id of the key that new evidence is signed with; by default the last of `KEYS`."
    )
    SEAL_BATCH_SIZE = Setting(
        int, 8192, "Maximum number of leaves in one seal.", validate=_batch_size
    )
    ANCHOR_FILE = Setting(
        str,
        None,
        "File that each new seal is appended to as a JSON line; keep it where the database's "
        "administrator can't write. Anchors also go to the logger `myometrics.audit.anchor`.",
    )
    ANCHOR_HOOK = Setting(
        DOTTED_PATH,
        None,
        "Function that publishes a new seal's anchor (a dictionary), its only argument.",
    )
    CHECKPOINT_KEY = Setting(
        str,
        None,
        "Private key that signs checkpoints, as text from `manage.py audit_key`. For this and the "
        "next settings install the app `myometrics_audit.checkpoints`.",
    )
    CHECKPOINT_KEY_FILE = Setting(
        (str, Path), None, "File with the private key, instead of `CHECKPOINT_KEY`."
    )
    CHECKPOINT_OLD_KEYS = Setting(
        list, [], "Public keys of this log before its current key; never remove one."
    )
    CHECKPOINT_ORIGIN = Setting(
        str,
        None,
        "Name of this log, the first line of its checkpoints; by default the name of the key. "
        "`verify.go` and `audit_witness` accept no other name.",
        validate=_origin,
    )
    CHECKPOINT_STORAGE = Setting(
        str,
        "audit_checkpoints",
        "Name in Django's `STORAGES` of the storage of checkpoints and tiles.",
    )
    WITNESSES = Setting(
        dict,
        {},
        "Witnesses that cosign checkpoints: public key → URL (before `/add-checkpoint`).",
        validate=_witnesses,
    )
    WITNESS_QUORUM = Setting(
        int,
        None,
        "How many witnesses must have cosigned a checkpoint; by default all. Others are published "
        "too, but marked.",
        validate=positive,
    )
    TIMESTAMP_URL = Setting(
        str,
        "",
        "URL of a time-stamping authority (RFC 3161) that confirms the time of checkpoints; needs "
        "the extra `timestamps`.",
        validate=http_url,
    )
    RECORD_READS = Setting(
        list,
        ["exports"],
        "Reads that leave an entry: `exports` of personal data (`data_exported`), `users` "
        "(`users_listed`, `user_viewed`), `audit_logs` (`audit_log_read`), `analytics` "
        "(`analytics_viewed`).",
        validate=_reads,
    )
    STREAMS = Setting(
        dict,
        {},
        "Streams of entries to other systems: name → options. Install the app "
        "`myometrics_audit.streams`.",
    )
    STREAM_SOURCE = Setting(
        dict,
        {},
        "Name of this site in streams: `application` (`myometrics` by default), `site_id` and "
        "`host` (by default that of the machine).",
        validate=_source,
    )
    REVIEW_WORKING_HOURS = Setting(
        dict,
        None,
        "For this and the next settings install the app `myometrics_audit.review`. Working hours, "
        '`{"days": [0, 1, 2, 3, 4], "from": "07:00", "to": "19:00"}`; 0 is Monday, the optional '
        "`time_zone` is a name. Without it, accesses outside of them are not reviewed.",
        validate=_working_hours,
    )
    REVIEW_RELATED = Setting(
        DOTTED_PATH,
        None,
        "Function that is called with a list of accesses (user_id, data_subject, day), and returns "
        "those in which the user and the data subject have the same surname or address.",
    )
    REVIEW_VIP = Setting(
        DOTTED_PATH,
        None,
        "Function that is called with a set of data subjects, and returns those on the VIP list.",
    )
    REVIEW_CARE_RELATION = Setting(
        DOTTED_PATH,
        None,
        "Function that is called with a list of accesses (user_id, data_subject, day), and returns "
        "those in which the user took part in the data subject's care.",
    )
    REVIEW_LEAVING = Setting(
        DOTTED_PATH,
        None,
        "Function that is called with a set of user ids, and returns those who are about to leave.",
    )
    REVIEW_EXPORT_ACTIONS = Setting(list, ["data_exported"], "Actions of entries that are exports.")
    REVIEW_RULES_OFF = Setting(list, [], "Names of the rules that are not applied.")
    REVIEW_REVIEWERS = Setting(
        DOTTED_PATH,
        None,
        "Function without arguments that returns the users to whom mails about findings are sent; "
        "by default the active users with the permission `decide_finding`, without superusers.",
    )
    REVIEW_DAYS = Setting(
        int, 14, "Days after which an open finding is overdue.", validate=positive
    )
    EMERGENCY_ACCESS_MAX_MINUTES = Setting(
        int, 240, "Maximum duration of an emergency access, in minutes.", validate=positive
    )
    EMERGENCY_ACCESS_REVIEW = Setting(
        timedelta,
        timedelta(days=3),
        "Time after which an emergency access that is not decided raises an alarm.",
        validate=positive,
    )
    ACCESS_REPORT_OWN_SUBJECT = Setting(
        DOTTED_PATH,
        None,
        "Function of a user that returns the user's own id as a data subject, whose access report "
        "the user may read, or `None`. For this and the next settings install the app "
        "`myometrics_audit.access_report`.",
    )
    ACCESS_REPORT_USER_NAME = Setting(
        DOTTED_PATH,
        None,
        "Function of a user that returns what data subjects see of them, such as their role; by "
        "default the full name, or the user name.",
    )
    ACCESS_REPORT_CLINIC = Setting(
        str, "", "Name of the clinic, shown on printed access reports and in FHIR."
    )
    ACCESS_REPORT_NOTIFY = Setting(
        DOTTED_PATH,
        None,
        "Function of a new entry about a data subject that returns the users to notify because "
        "its user is outside the care team; an empty list if not. Not called for refused access, "
        "readings of reports, and entries without a user.",
    )
    PARTITION_SIZE = Setting(
        int,
        10_000_000,
        "Ids in one partition of the table of entries, 1000 or more. For this and the next setting "
        "install the app `myometrics_audit.partitions`, and run `manage.py audit_partition`.",
        validate=_partition_size,
    )
    PARTITIONS_AHEAD = Setting(
        int, 3, "Empty partitions that are kept after the current one.", validate=positive
    )
    USER_AGENT_MAX_LENGTH = Setting(
        int, 1024, "Maximum length of a stored user agent, in characters.", validate=_agent_length
    )
    ALLOW_FLUSH = Setting(
        bool,
        False,
        "For test settings only: allows `flush`, and so TransactionTestCase, to empty the "
        "guarded tables.",
    )


audit_settings = AuditSettings()
"""``MYOMETRICS_AUDIT`` with its defaults, read at each access."""
