"""Claim, finish and retry a job, with one conditional UPDATE each. No lock is held in between."""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from typing import Any

from django.db import OperationalError, router
from django.db.models import Case, F, Q, When

from ..db.transactions import atomic_write, is_serialization_failure, write_despite_failures
from ..texts import storable_text
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
    try:
        is_claimed = free.update(
            claimed_by=token,
            claimed_until=moment + lease,
            attempts=F("attempts") + 1,
            run_again=False,
        )
    except OperationalError as error:
        if not is_serialization_failure(error):
            raise
        return None  # at REPEATABLE READ: changed by another worker or an enqueue
    return Job.objects.filter(pk=job_id, claimed_by=token).first() if is_claimed else None


def finish_job(job: Job) -> bool:
    """Delete the job, or make it due again if it is recurring or was enqueued again.

    False if this worker no longer holds the claim: its results must not be written.
    """
    owned, kind = _owned(job), job_kind(job.kind)
    fresh: dict[str, Any] = {**_RELEASED, "attempts": 0, "last_error": ""}
    now = utc_now()
    if kind.schedule is not None:
        # One statement: the job may be enqueued at the same time.
        run_at = Case(When(run_again=True, then=now), default=kind.schedule.next_run(now))
        return bool(owned.update(**fresh, run_at=run_at))
    # Not `delete()`: with a receiver of the site for all models it reads first, and deletes by id.
    done = owned.filter(run_again=False)._raw_delete(owned.db)
    return bool(done or owned.filter(run_again=True).update(**fresh, run_at=now))


def fail_job(job: Job, kind: JobKind, failure: JobFailed) -> None:
    """Record a failed attempt: schedule a retry, or mark the job dead after the last one."""
    job.last_error = storable_text(failure.summary, 200)
    is_last = failure.permanent or job.attempts >= kind.retry.max_attempts
    mark = _mark_dead if is_last and kind.schedule is None else _schedule_retry
    write_despite_failures(lambda: mark(job, kind), router.db_for_write(Job))


def finish_surely(job: Job) -> None:
    """Finish the job; a short failure of the database must not make it run twice."""
    if not write_despite_failures(lambda: finish_job(job), router.db_for_write(Job)):
        logger.warning("%s was taken over by another worker before it was finished", job)


_RELEASED: dict[str, Any] = {"claimed_by": None, "claimed_until": None}


def _owned(job: Job) -> Any:
    return Job.objects.pending().filter(pk=job.pk, claimed_by=job.claimed_by)


def _schedule_retry(job: Job, kind: JobKind, **values: Any) -> bool:
    run_at = utc_now() + kind.retry.backoff(job.attempts)
    values = {**_RELEASED, "run_at": run_at, "last_error": job.last_error, **values}
    return bool(_owned(job).update(**values))


def _mark_dead(job: Job, kind: JobKind) -> bool:
    with atomic_write(router.db_for_write(Job)):
        values = {**_RELEASED, "run_at": utc_now(), "last_error": job.last_error}
        last = _owned(job).filter(run_again=False)
        if not last.update(state=Job.State.DEAD, **values):
            # Enqueued while this attempt ran: a new job, with all its attempts.
            return _schedule_retry(job, kind, attempts=0)
        kind.on_dead(job)
    logger.error("%s is dead after %d attempts: %s", job, job.attempts, job.last_error)
    return True
