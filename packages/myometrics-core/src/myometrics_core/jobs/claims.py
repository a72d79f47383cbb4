"""Claim, finish and retry a job, with one conditional UPDATE each. No lock is held in between."""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from typing import Any

from django.db import router
from django.db.models import F, Q

from ..db.transactions import atomic_write, write_despite_failures
from ..times import utc_now
from .kinds import JobFailed, JobKind, job_kind
from .models import Job

__all__ = ["claim_job", "fail_job", "finish_job", "finish_surely"]

logger = logging.getLogger("myometrics.jobs")


def claim_job(job_id: int, lease: timedelta, *, now: bool = False) -> Job | None:
    """Claim the job for ``lease``; ``None`` if it is not due, finished or claimed by another.

    ``now`` claims a job that is not due yet. The attempt is counted here, so that a job that kills
    its worker is not retried for ever.
    """
    token, moment = uuid.uuid4(), utc_now()
    jobs = Job.objects.pending() if now else Job.objects.pending().filter(run_at__lte=moment)
    free = jobs.filter(Q(claimed_until=None) | Q(claimed_until__lte=moment), pk=job_id)
    is_claimed = free.update(
        claimed_by=token,
        claimed_until=moment + lease,
        attempts=F("attempts") + 1,
        run_again=False,
    )
    return Job.objects.filter(pk=job_id, claimed_by=token).first() if is_claimed else None


def finish_job(job: Job) -> bool:
    """Delete the job, or make it due again if it is recurring or was enqueued again.

    False if this worker no longer holds the claim: its results must not be written.
    """
    owned, kind = _owned(job), job_kind(job.kind)
    fresh: dict[str, Any] = {**_RELEASED, "attempts": 0, "last_error": ""}
    now = utc_now()
    again = owned.filter(run_again=True)
    if kind.schedule is not None:
        is_finished = again.update(**fresh, run_at=now) or owned.update(
            **fresh, run_at=kind.schedule.next_run(now)
        )
    else:
        is_finished = owned.filter(run_again=False).delete()[0] or again.update(**fresh, run_at=now)
    return bool(is_finished)


def fail_job(job: Job, kind: JobKind, failure: JobFailed) -> None:
    """Record a failed attempt: schedule a retry, or mark the job dead after the last one."""
    is_last = failure.permanent or job.attempts >= kind.retry.max_attempts
    if is_last and kind.schedule is None:
        write_despite_failures(lambda: _bury(job, kind, failure), router.db_for_write(Job))
        return
    later = utc_now() + kind.retry.backoff(job.attempts)
    values = {**_RELEASED, "run_at": later, "last_error": failure.summary[:200]}
    write_despite_failures(lambda: bool(_owned(job).update(**values)), router.db_for_write(Job))


def finish_surely(job: Job) -> None:
    """Finish the job; a short failure of the database must not make it run twice."""
    if not write_despite_failures(lambda: finish_job(job), router.db_for_write(Job)):
        logger.warning("%s was taken over by another worker before it was finished", job)


_RELEASED: dict[str, Any] = {"claimed_by": None, "claimed_until": None}


def _owned(job: Job) -> Any:
    return Job.objects.pending().filter(pk=job.pk, claimed_by=job.claimed_by)


def _bury(job: Job, kind: JobKind, failure: JobFailed) -> bool:
    with atomic_write(router.db_for_write(Job)):
        values = {**_RELEASED, "run_at": utc_now(), "last_error": failure.summary[:200]}
        if not _owned(job).update(state=Job.State.DEAD, **values):
            return False
        kind.on_dead(job)
    logger.error("%s is dead after %d attempts: %s", job, job.attempts, failure.summary)
    return True
