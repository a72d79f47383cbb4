"""The recurring job that pulls uploads from the configured upload source."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, NamedTuple

from django.db.models import QuerySet

from myometrics_core.db import atomic_write
from myometrics_core.jobs import Job, JobFailed, JobKind, RetryPolicy, enqueue, every, run_job
from myometrics_core.times import utc_now

from ..conf import analytics_settings
from ..facts.services import reports_revoke, uploads_merge
from ..models import PullState
from .upload_sources import BadRow, Listing, SourceUnavailable, UploadSource, Validators

logger = logging.getLogger("myometrics.analytics.pull")

PULL_JOB: Final = "myometrics_analytics.pull"
PULL_ALL_JOB: Final = "myometrics_analytics.pull_all"
BATCH: Final = 1000
MAX_LOGGED_BAD_ROWS: Final = 20


@dataclass
class PullReport:
    """Result of a pull: rows of the response, and how they were handled."""

    rows: int = 0
    created: int = 0
    updated: int = 0
    unknown_users: int = 0
    bad_rows: int = 0
    is_unchanged: bool = False


class PullStatus(NamedTuple):
    """When the next pull is due, and the failed pulls since the last success."""

    due_at: datetime | None = None
    failures: int = 0
    last_error: str = ""


_report: ContextVar[PullReport | None] = ContextVar("pull_report", default=None)
"""The report of the last pull in this thread."""


class PullAllUploads(JobKind):
    """Pull unconditionally, once, because addresses got or lost an owner.

    A kind of its own: while it runs, a further change makes it run again, and no pull that began
    before the change can count as the complete one. After failures see ``PULL_RETRY_DELAY``.
    """

    name = PULL_ALL_JOB

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=2 * analytics_settings.PULL_DEADLINE)

    @property
    def retry(self) -> RetryPolicy:
        return RetryPolicy(
            max_attempts=100,
            base=timedelta(seconds=analytics_settings.PULL_RETRY_DELAY),
            cap=timedelta(seconds=analytics_settings.PULL_RETRY_DELAY_MAX),
        )

    def run(self, job: Job) -> None:
        reports_revoke()
        _pull(job, Validators())


class PullUploads(PullAllUploads):
    """Pull every ``PULL_INTERVAL`` seconds, once in ``PULL_COMPLETE_EVERY`` unconditionally."""

    name = PULL_JOB
    schedule = every(lambda: timedelta(seconds=analytics_settings.PULL_INTERVAL))

    def run(self, job: Job) -> None:
        state = PullState.objects.first() or PullState()
        interval = timedelta(seconds=analytics_settings.PULL_COMPLETE_EVERY)
        if state.completed_at is not None and utc_now() - state.completed_at < interval:
            _pull(job, Validators(etag=state.etag, last_modified=state.last_modified))
        else:
            _pull(job, Validators())


def pull_all_enqueue() -> None:
    """Enqueue one complete pull, in the transaction that changes who owns an address."""
    if analytics_settings.UPLOAD_SOURCE().is_configured():
        enqueue(PULL_ALL_JOB, key="")


def uploads_pull() -> PullReport | None:
    """Pull at once and unconditionally.

    Returns ``None`` if no source is configured or another pull is running. Raises
    :class:`SourceUnavailable` if the pull fails; the next one is then delayed.
    """
    if not analytics_settings.UPLOAD_SOURCE().is_configured():
        return None
    PullState.objects.update(completed_at=None)
    if not _pending().exists():
        # In the future, so that no other worker begins it.
        enqueue(PULL_JOB, key="", run_at=utc_now() + timedelta(hours=1))
    _report.set(None)
    if not run_job(PULL_JOB, now=True):
        return None
    report = _report.get()
    if report is None:
        raise SourceUnavailable(pull_status().last_error)
    return report


def pull_status() -> PullStatus:
    """Return the status of the recurring pull. An interrupted pull counts as failed."""
    job = _pending().first()
    if job is None:
        return PullStatus()
    is_running = job.claimed_until is not None and job.claimed_until > utc_now()
    return PullStatus(job.run_at, job.attempts - is_running, job.last_error)


def _pending() -> QuerySet[Job]:
    return Job.objects.pending().filter(kind=PULL_JOB, key="")


def _pull(job: Job, validators: Validators) -> None:
    source: UploadSource = analytics_settings.UPLOAD_SOURCE()
    if not source.is_configured():
        return
    PullState.objects.get_or_create(pk=1)
    try:
        listing = source.fetch(validators)
        report = _merge_rows(listing)
    except SourceUnavailable as failure:
        raise JobFailed(f"no uploads pulled, {failure}") from failure
    with atomic_write():
        if job.finish():
            _save(listing, report)
    _report.set(report)
    logger.info("Image service: %s", report)


def _merge_rows(listing: Listing) -> PullReport:
    report = PullReport(is_unchanged=listing.is_unchanged)
    rows = iter(listing.rows)
    while batch := list(islice(rows, BATCH)):
        events = []
        for row in batch:
            if isinstance(row, BadRow):
                report.bad_rows += 1
                if report.bad_rows <= MAX_LOGGED_BAD_ROWS:
                    logger.warning("Image service: skipped row %d: %s", row.number, row.reason)
            elif row.user_id is None and not row.address:
                report.unknown_users += 1
            else:
                events.append(row)
        merged = uploads_merge(events=events)
        report.rows += len(batch)
        report.created += merged.created
        report.updated += merged.updated
        report.unknown_users += merged.unknown_users
    if report.bad_rows:
        logger.warning("Image service: skipped %d of %d rows", report.bad_rows, report.rows)
    return report


def _save(listing: Listing, report: PullReport) -> None:
    state = PullState.objects.select_for_update().get(pk=1)
    state.succeeded_at = utc_now()
    if not report.is_unchanged:
        state.etag = listing.validators.etag
        state.last_modified = listing.validators.last_modified
        state.completed_at = state.succeeded_at
        state.rows, state.bad_rows = report.rows, report.bad_rows
        state.unknown_users = report.unknown_users
    state.save()
