"""The jobs of the review: examination, alarm, daily mail."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

from django.contrib.auth import get_user_model
from django.db import router
from django.utils import timezone

from myometrics_core.db import atomic_write
from myometrics_core.jobs import Job, JobKind, RetryPolicy, daily, every, register_job_kind
from myometrics_core.times import utc_now
from myometrics_core.users import parse_user_id

from .emergency_access import overdue_emergency_accesses
from .findings import open_findings
from .mails import REVIEW_MAIL_JOB, review_mail_send, review_mails_enqueue
from .models import EmergencyAccess
from .scanning import scan_pending, scanned_until
from .states import delete_expired_states

MAX_SECONDS: Final = 60.0
"""A run ends after so long, between two batches: well within its lease."""
SCAN_JOB: Final = "myometrics_audit.review_scan"
ALARM_JOB: Final = "myometrics_audit.review_alarm"
DIGEST_JOB: Final = "myometrics_audit.review_digest"


class ScanLog(JobKind):
    """Examine new entries every minute."""

    name = SCAN_JOB
    schedule = every(timedelta(minutes=1))

    def run(self, job: Job) -> None:
        ends = time.monotonic() + MAX_SECONDS
        for _ in scan_pending():
            if time.monotonic() >= ends:
                return


class RaiseAlarm(JobKind):
    """Mail reviewers, once for each, about emergency accesses that were not reviewed in time."""

    name = ALARM_JOB
    schedule = every(timedelta(minutes=10))

    def run(self, job: Job) -> None:
        with atomic_write(router.db_for_write(EmergencyAccess)):
            overdue = overdue_emergency_accesses().filter(alarmed_at=None)
            newest = overdue.order_by("-pk").values_list("pk", flat=True).first()
            # Without reviewers, the alarm stays due until there are some.
            if newest is not None and review_mails_enqueue("alarm", newest):
                overdue.filter(pk__lte=newest).update(alarmed_at=timezone.now())


class MailDigest(JobKind):
    """Mail reviewers the numbers of open findings, and delete expired states, once a day."""

    name = DIGEST_JOB
    schedule = daily(5, 17)

    def run(self, job: Job) -> None:
        # Not by the clock: the examination may be behind.
        if (now := scanned_until()) is not None:
            delete_expired_states(now)
        if open_findings().exists():
            review_mails_enqueue("digest", utc_now().date())


class SendReviewMail(JobKind):
    """Send one mail to one reviewer."""

    name = REVIEW_MAIL_JOB
    lease = timedelta(minutes=2)
    retry = RetryPolicy(max_attempts=20, base=timedelta(minutes=1), cap=timedelta(hours=1))

    def run(self, job: Job) -> None:
        users = get_user_model()._base_manager
        user = users.filter(pk=parse_user_id(str(job.payload["user"]))).first()
        if user is not None and user.is_active and open_findings().exists():
            review_mail_send(user, topic=job.payload["topic"], mail_id=f"review-{job.key}")


def register_jobs() -> None:
    """Register the kinds."""
    for kind in (ScanLog(), RaiseAlarm(), MailDigest(), SendReviewMail()):
        register_job_kind(kind)
