"""Examinations of the audit log for ``manage.py myometrics_doctor``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from django.db import router
from django.utils import timezone

from myometrics_core.conf import core_settings
from myometrics_core.doctor import Diagnosis, describe_age, register_examination
from myometrics_core.times import utc_text

from .conf import audit_settings
from .gauges import anchor_lag_seconds, seal_lag_seconds
from .log.guards import missing_guards
from .log.models import AuditLog, Seal, Verification
from .signing.keys import active_key, known_keys

MAX_SEAL_LAG: Final = 300.0
MAX_ANCHOR_LAG: Final = 300.0
MAX_VERIFICATION_AGE: Final = 35 * 86_400.0


def register_examinations() -> None:
    """Register the examinations with core's doctor."""
    register_examination("audit guards", examine_guards, needs_database=True)
    register_examination(
        "audit keys", examine_keys, needs_database=True, covers=("myometrics_audit.W013",)
    )
    register_examination("pseudonym keys", examine_pseudonym_keys, needs_database=True)
    register_examination("audit seals", examine_seals, needs_database=True)
    register_examination("audit anchors", examine_anchors, needs_database=True)
    register_examination("audit verification", examine_verification, needs_database=True)


def examine_guards() -> Iterator[Diagnosis]:
    """Check that the guards exist and are enabled."""
    missing = missing_guards(router.db_for_write(AuditLog))
    if missing:
        yield Diagnosis(
            "audit guards",
            "problem",
            f"{len(missing)} triggers are missing or disabled: {', '.join(missing)}.",
            "Run 'manage.py migrate', which creates missing ones, or enable them; then run "
            "'manage.py audit_verify'.",
        )
    else:
        yield Diagnosis("audit guards", "ok", "All triggers exist and are enabled.")


def examine_keys() -> Iterator[Diagnosis]:
    """Check that ``KEYS`` is set, and that no key of a seal is lost."""
    name = "audit keys"
    active = active_key()
    known = {key.id for key in known_keys()}
    used = Seal.objects.order_by().values_list("key_id", flat=True).distinct()
    lost = sorted(set(used) - known)
    if lost:
        yield Diagnosis(
            name,
            "problem",
            f"{len(lost)} signing keys of seals are missing: {', '.join(lost)}.",
            "Add them to MYOMETRICS_AUDIT['KEYS'] or SECRET_KEY_FALLBACKS.",
        )
    elif not audit_settings.KEYS:
        yield Diagnosis(
            name,
            "warning",
            "The key is derived from SECRET_KEY.",
            "Set MYOMETRICS_AUDIT['KEYS'], so that SECRET_KEY can change freely.",
        )
    else:
        yield Diagnosis(name, "ok", f"{len(audit_settings.KEYS)} keys; {active.id!r} is active.")


def examine_pseudonym_keys() -> Iterator[Diagnosis]:
    """Report which pseudonym keys are needed to erase recorded failed logins."""
    name, count = "pseudonym keys", len(core_settings.pseudonym_keys)
    if count == 1:
        yield Diagnosis(name, "ok", "There is one key.")
        return
    oldest = oldest_failed_login()
    if oldest is None:
        yield Diagnosis(
            name,
            "ok",
            f"There are {count} keys; no failed login was recorded under the old ones.",
            "All but the first can be removed from MYOMETRICS['PSEUDONYM_KEYS'].",
        )
    else:
        yield Diagnosis(
            name,
            "ok",
            f"There are {count} keys; the oldest failed login is of {utc_text(oldest)}.",
            "Only keys that were replaced before that can be removed.",
        )


def oldest_failed_login() -> datetime | None:
    """Return the time of the oldest failed login recorded under an account's pseudonym.

    A key of ``MYOMETRICS["PSEUDONYM_KEYS"]`` that was replaced before this time is unused and can
    be removed. ``None`` means that there are no such entries: all keys but the first can be
    removed. Without a key that is in use, the erasure of a user misses failed logins.
    """
    failed = AuditLog.objects.filter(action="login_failed", user=None, pseudonym="")
    oldest = failed.order_by("timestamp", "id").values_list("timestamp", flat=True)
    return oldest.first()


def examine_seals() -> Iterator[Diagnosis]:
    """Check the age of the oldest unsealed entry."""
    lag = seal_lag_seconds()
    if lag > MAX_SEAL_LAG:
        yield Diagnosis(
            "audit seals",
            "problem",
            f"The oldest entry without a seal is {describe_age(lag)} old.",
            "Run jobs (JOB_RUNNER of MYOMETRICS), or 'manage.py audit_seal' from cron.",
        )
    else:
        yield Diagnosis("audit seals", "ok", "Entries are sealed, or younger than five minutes.")


def examine_anchors() -> Iterator[Diagnosis]:
    """Check that seals are published outside the database."""
    name, path = "audit anchors", audit_settings.ANCHOR_FILE
    lag = anchor_lag_seconds()
    if path and not _is_writable(Path(path)):
        yield Diagnosis(
            name,
            "problem",
            "ANCHOR_FILE can't be written.",
            "Make the file or its folder writable.",
        )
    elif lag > MAX_ANCHOR_LAG:
        yield Diagnosis(
            name,
            "problem",
            f"The oldest seal that is not published is {describe_age(lag)} old.",
            "See the log of myometrics.jobs, then run 'manage.py audit_seal'.",
        )
    elif not path and audit_settings.ANCHOR_HOOK is None:
        yield Diagnosis(
            name,
            "not configured",
            "Seals are published only by the logger myometrics.audit.anchor.",
            "Store its lines on another machine, or set ANCHOR_FILE or ANCHOR_HOOK.",
        )
    else:
        yield Diagnosis(name, "ok", "Seals are published.")


def _is_writable(path: Path) -> bool:
    place = path if path.exists() else path.parent
    return place.exists() and os.access(place, os.W_OK) and not path.is_dir()


def examine_verification() -> Iterator[Diagnosis]:
    """Check the age and the result of the last verification."""
    name, last = "audit verification", Verification.objects.order_by("-id").first()
    if last is None:
        yield Diagnosis(
            name,
            "warning",
            "The log was never verified.",
            "Run 'manage.py audit_verify' from cron.",
        )
        return
    age = (timezone.now() - last.finished_at).total_seconds()
    if last.problems:
        yield Diagnosis(
            name,
            "problem",
            f"The last run found {last.problems} problems, {describe_age(age)} ago.",
            "Run 'manage.py audit_verify', which lists them.",
        )
    elif age > MAX_VERIFICATION_AGE:
        yield Diagnosis(
            name,
            "warning",
            f"The last run was {describe_age(age)} ago.",
            "Run 'manage.py audit_verify' from cron, at least once a month.",
        )
    else:
        yield Diagnosis(name, "ok", f"No problems {describe_age(age)} ago.")
