"""Pulling uploads from the image service: single-flight, with the back-off in a row."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Final

from django.db.models import Q

from myometrics_core.times import utc_now

from ..conf import analytics_settings
from ..facts.services import uploads_merge
from ..facts.upload_event import UploadEvent
from ..models import PullState
from .upload_sources import BadRow, Listing, SourceUnavailable, UploadSource, Validators

__all__ = ["PullReport", "uploads_pull"]

logger = logging.getLogger("myometrics.analytics.pull")

BATCH: Final = 1000
MAX_LOGGED_BAD_ROWS: Final = 20
MAX_DOUBLINGS: Final = 30


@dataclass
class PullReport:
    """Result of a pull: rows of the response, and how they were handled."""

    rows: int = 0
    created: int = 0
    updated: int = 0
    unknown_users: int = 0
    bad_rows: int = 0
    is_unchanged: bool = False


def uploads_pull(*, now: bool = False) -> PullReport | None:
    """Pull from the source if due; return ``None`` if not due or another pull is running.

    ``now`` pulls at once and unconditionally. If the source is down or returns an invalid
    response, the failure is logged, the next pull is delayed (doubled with each failure), and
    :class:`SourceUnavailable` is raised.
    """
    source: UploadSource = analytics_settings.UPLOAD_SOURCE()
    state = _claim(now) if source.is_configured() else None
    if state is None:
        return None
    try:
        validators = Validators()
        if not (now or _is_complete_pull_due(state)):
            validators = Validators(etag=state.etag, last_modified=state.last_modified)
        listing = source.fetch(validators)
        report = _merge_rows(listing)
        _succeeded(state, listing, report)
        return report
    except SourceUnavailable as failure:
        _failed(state, str(failure))
        raise
    finally:
        PullState.objects.filter(pk=state.pk).update(leased_until=None)


def _claim(now: bool) -> PullState | None:
    PullState.objects.get_or_create(pk=1)
    moment = utc_now()
    free = PullState.objects.filter(Q(leased_until=None) | Q(leased_until__lt=moment), pk=1)
    if not now:
        free = free.filter(Q(due_at=None) | Q(due_at__lte=moment))
    lease = timedelta(seconds=2 * analytics_settings.PULL_DEADLINE)
    return PullState.objects.get(pk=1) if free.update(leased_until=moment + lease) else None


def _is_complete_pull_due(state: PullState) -> bool:
    every = timedelta(seconds=analytics_settings.PULL_COMPLETE_EVERY)
    return state.completed_at is None or utc_now() - state.completed_at >= every


def _merge_rows(listing: Listing) -> PullReport:
    report = PullReport(is_unchanged=listing.is_unchanged)
    rows = iter(listing.rows)
    while batch := list(_valid_events(islice(rows, BATCH), report)):
        merged = uploads_merge(events=[event for event in batch if event is not None])
        report.created += merged.created
        report.updated += merged.updated
        report.unknown_users += merged.unknown_users
    if report.bad_rows:
        logger.warning("Image service: skipped %d of %d rows", report.bad_rows, report.rows)
    return report


def _valid_events(
    rows: Iterator[UploadEvent | BadRow], report: PullReport
) -> Iterator[UploadEvent | None]:
    """Yield the event of each row; ``None`` if skipped, because an empty batch ends the pull."""
    for row in rows:
        report.rows += 1
        if isinstance(row, BadRow):
            report.bad_rows += 1
            if report.bad_rows <= MAX_LOGGED_BAD_ROWS:
                logger.warning("Image service: skipped row %d: %s", row.number, row.reason)
            yield None
        elif row.user_id is None:
            report.unknown_users += 1
            yield None
        else:
            yield row


def _succeeded(state: PullState, listing: Listing, report: PullReport) -> None:
    now = utc_now()
    state.due_at = now + timedelta(seconds=analytics_settings.PULL_INTERVAL)
    state.succeeded_at, state.failures, state.last_error = now, 0, ""
    if not report.is_unchanged:
        state.etag = listing.validators.etag
        state.last_modified = listing.validators.last_modified
        state.completed_at = now
        state.rows, state.bad_rows = report.rows, report.bad_rows
        state.unknown_users = report.unknown_users
    state.save()
    logger.info("Image service: %s", report)


def _failed(state: PullState, reason: str) -> None:
    state.failures += 1
    delay = min(
        analytics_settings.PULL_RETRY_DELAY * 2 ** min(state.failures - 1, MAX_DOUBLINGS),
        analytics_settings.PULL_RETRY_DELAY_MAX,
    )
    state.due_at = utc_now() + timedelta(seconds=delay)
    state.last_error = reason[:500]
    state.save()
    logger.warning(
        "Image service: no uploads pulled, %s (failure %d in a row); next attempt in %d s",
        reason,
        state.failures,
        delay,
    )
