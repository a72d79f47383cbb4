"""Examination of the review for ``manage.py myometrics_doctor``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from myometrics_core.doctor import Diagnosis, describe_age, register_examination

from ..conf import audit_settings
from .emergency_access import overdue_emergency_accesses
from .gauges import finding_age_seconds
from .mails import reviewers
from .scanning import scan_lag_seconds

MAX_SCAN_LAG: Final = 600.0
NAME: Final = "audit review"


def register_examinations() -> None:
    """Register the examination with core's doctor."""
    register_examination(NAME, examine_review, needs_database=True)


def examine_review() -> Iterator[Diagnosis]:
    """Check that entries are examined, and that findings are decided in time."""
    lag, age = scan_lag_seconds(), finding_age_seconds()
    overdue = overdue_emergency_accesses().count()
    if lag > MAX_SCAN_LAG:
        yield Diagnosis(
            NAME,
            "problem",
            f"The oldest entries that are not examined were sealed {describe_age(lag)} ago.",
            "See the log of myometrics.jobs, then run 'manage.py audit_review'.",
        )
    if overdue:
        yield Diagnosis(
            NAME,
            "problem",
            f"{overdue} emergency accesses were not reviewed in time.",
            "Decide their findings in the admin site.",
        )
    if age > timedelta(days=audit_settings.REVIEW_DAYS).total_seconds():
        yield Diagnosis(
            NAME,
            "warning",
            f"The oldest open finding is {describe_age(age)} old.",
            "Decide it in the admin site.",
        )
    if age and not reviewers():
        yield Diagnosis(
            NAME,
            "warning",
            "There are findings, and no user receives mails about them.",
            "Give users the permission 'Can decide findings', or set REVIEW_REVIEWERS.",
        )
    elif lag <= MAX_SCAN_LAG and not overdue:
        yield Diagnosis(NAME, "ok", "Entries are examined, emergency accesses reviewed in time.")
