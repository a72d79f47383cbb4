"""Claim, finish and retry a job, with one conditional UPDATE each. No lock is held in between."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from django.db import OperationalError, router
from django.db.models import F, Q

from ..db.transactions import atomic_write, is_serialization_failure, write_despite_failures
from ..texts import storable_text
from ..times import utc_now
from .kinds import JobFailed, JobKind
from .models import RELEASED, Job

logger = logging.getLogger("myometrics.jobs")


def claim_job(job_id: int, kind: JobKind, *, now: bool = False) -> Job | None:
    """Claim the job for its kind's lease; ``None`` if it is not due, finished or already claimed.

    ``now`` claims a job that is not due yet. The attempt is counted here, so that a job that kills
    its worker is not retried for ever.
    """
    token, moment = uuid.uuid4(), utc_now()
    jobs = Job.objects.pending() if now else Job.objects.pending().filter(run_at__lte=moment)
    free = jobs.filter(Q(claimed_until=None) | Q(claimed_until__lte=moment), pk=job_id)
    try:
        is_claimed = free.update(
            claimed_by=token,
            claimed_until=moment + kind.lease,
            attempts=F("attempts") + 1,
            run_again=False,
        )
    except OperationalError as error:
        if not is_serialization_failure(error):
            raise
        return None  # at REPEATABLE READ: changed by another worker or an enqueue
    job = Job.objects.filter(pk=job_id, claimed_by=token).first() if is_claimed else None
    if job is not None and kind.schedule is not None:
        job.next_run = kind.schedule.next_run
    return job


def fail_job(job: Job, kind: JobKind, failure: JobFailed) -> None:
    """Record a failed attempt: schedule a retry, or mark the job dead after the last one."""
    job.last_error = storable_text(failure.summary, 200)
    is_last = failure.permanent or job.attempts >= kind.retry.max_attempts
    mark = _mark_dead if is_last and kind.schedule is None else _schedule_retry
    write_despite_failures(lambda: mark(job, kind), router.db_for_write(Job))


def finish_surely(job: Job) -> None:
    """Finish the job; a short failure of the database must not make it run twice."""
    if not write_despite_failures(job.finish, router.db_for_write(Job)):
        logger.warning("%s was taken over by another worker before it was finished", job)


def _schedule_retry(job: Job, kind: JobKind, **values: Any) -> bool:
    run_at = utc_now() + kind.retry.backoff(job.attempts)
    values = {**RELEASED, "run_at": run_at, "last_error": job.last_error, **values}
    return bool(Job.objects.claimed_as(job).update(**values))


def _mark_dead(job: Job, kind: JobKind) -> bool:
    with atomic_write(router.db_for_write(Job)):
        values = {**RELEASED, "run_at": utc_now(), "last_error": job.last_error}
        last = Job.objects.claimed_as(job).filter(run_again=False)
        if not last.update(state=Job.State.DEAD, **values):
            # Enqueued while this attempt ran: a new job, with all its attempts.
            return _schedule_retry(job, kind, attempts=0)
        kind.on_dead(job)
    logger.error("%s is dead after %d attempts: %s", job, job.attempts, job.last_error)
    return True
