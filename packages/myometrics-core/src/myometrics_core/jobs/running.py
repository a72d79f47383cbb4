"""Run jobs in this thread: one by its key, all due ones of a kind, or all that are due."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings as django_settings
from django.db.models import Min
from django.urls import set_script_prefix

from ..db.transactions import DATABASE_FAILURES
from ..http.request_id import request_id_as
from ..times import utc_now
from .claims import claim_job, fail_job, finish_surely
from .kinds import JobFailed, JobKind, job_kind, job_kinds
from .models import Job

logger = logging.getLogger("myometrics.jobs")

BATCH = 100
MAX_SECONDS = 60.0
MAX_SERVICE_FAILURES = 3

_paused_until: dict[str, float] = {}


def run_job(kind_name: str, key: str = "", *, now: bool = False) -> bool:
    """Run one pending job in this thread; return whether an attempt was made.

    Nothing happens if it is not due (unless ``now``), if another worker has claimed it, or if the
    kind is paused because its service is down. The failure of an attempt is recorded, not raised.
    """
    kind = job_kind(kind_name)
    if not now and _is_paused(kind):
        return False
    pending = Job.objects.pending().filter(kind=kind_name, key=key)
    job_id = pending.values_list("pk", flat=True).first()
    if job_id is None:
        return False
    with _session(kind):
        is_tried, failure = _attempt(kind, job_id, now=now)
    _note_service(kind, is_tried, failure)
    return is_tried


def run_jobs(
    kind_name: str,
    *,
    seconds: float = MAX_SECONDS,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Run the due jobs of a kind one after another; return the number of attempts.

    Begins no further job after ``seconds``, or when the service fails several times in a row, and
    none while the kind is paused. Other workers may do the same at the same time.
    """
    kind, ends = job_kind(kind_name), time.monotonic() + seconds
    attempts = failures = 0
    if _is_paused(kind):
        return 0
    with _session(kind):
        while job_ids := _due_ids(kind_name):
            before = attempts
            for job_id in job_ids:
                is_over = time.monotonic() >= ends or failures >= MAX_SERVICE_FAILURES
                if is_over or should_stop():
                    return attempts
                is_tried, failure = _attempt(kind, job_id)
                _note_service(kind, is_tried, failure)
                attempts += is_tried
                failures = failures + 1 if failure and failure.service_down else 0
            if attempts == before:  # other workers were faster
                break
    return attempts


def due_kinds() -> list[str]:
    """Return the names of the registered kinds with due jobs, the longest due first.

    Without kinds that are paused in this process.
    """
    ready = [kind.name for kind in job_kinds() if not _is_paused(kind)]
    due = Job.objects.due().filter(kind__in=ready).order_by().values_list("kind")
    return [kind for kind, _ in sorted(due.annotate(Min("run_at")), key=lambda row: row[1])]


def run_all_jobs(*, seconds: float = MAX_SECONDS) -> int:
    """Run everything that is due in this thread; return the number of attempts.

    An unexpected error of one kind, such as of its session, is logged.
    """
    ensure_recurring_jobs()
    attempts = 0
    for kind in due_kinds():
        try:
            attempts += run_jobs(kind, seconds=seconds)
        except Exception:
            logger.exception("Jobs of kind %s could not be run", kind)
    return attempts


def ensure_recurring_jobs() -> None:
    """Write the jobs of recurring kinds that are missing.

    A job whose time is further away than its schedule allows, because an interval was shortened or
    the clock moved back, is moved.
    """
    now = utc_now()
    recurring = {kind.name: kind.schedule for kind in job_kinds() if kind.schedule is not None}
    rows = Job.objects.pending().filter(kind__in=recurring, key="")
    found = {job.kind: job for job in rows}
    missing = [Job(kind=name, key="", run_at=now) for name in recurring if name not in found]
    if missing:
        Job.objects.bulk_create(missing, ignore_conflicts=True)
    for name, job in found.items():
        latest = recurring[name].next_run(now)
        if job.attempts == 0 and job.run_at > latest:
            Job.objects.filter(pk=job.pk, run_at=job.run_at).update(run_at=latest)


def _due_ids(kind_name: str) -> list[int]:
    return list(Job.objects.due().filter(kind=kind_name).values_list("pk", flat=True)[:BATCH])


def _attempt(kind: JobKind, job_id: int, *, now: bool = False) -> tuple[bool, JobFailed | None]:
    job = claim_job(job_id, kind, now=now)
    if job is None:
        return False, None
    with request_id_as(job.request_id or None):
        failure = _run_claimed(kind, job)
    return True, failure


def _run_claimed(kind: JobKind, job: Job) -> JobFailed | None:
    max_attempts = kind.retry.max_attempts
    if job.attempts > max_attempts and kind.schedule is None:
        # The last attempt recorded no failure: it killed its worker, or outlasted its lease.
        failure = JobFailed(f"no result after {max_attempts} attempts", permanent=True)
        _record_failure(job, kind, failure)
        return failure
    if django_settings.FORCE_SCRIPT_NAME is not None:
        # Django sets it in the main thread alone; links in mails need it.
        set_script_prefix(django_settings.FORCE_SCRIPT_NAME)
    try:
        kind.run(job)
    except JobFailed as error:
        failure = error
        logger.warning("%s failed (attempt %d): %s", job, job.attempts, failure.summary)
    except Exception as error:
        failure = JobFailed(type(error).__name__)
        logger.exception("%s failed (attempt %d)", job, job.attempts)
    else:
        if not job.is_finish_called:
            finish_surely(job)
        logger.log(logging.DEBUG if kind.schedule else logging.INFO, "%s finished", job)
        return None
    _record_failure(job, kind, failure)
    return failure


def _record_failure(job: Job, kind: JobKind, failure: JobFailed) -> None:
    try:
        fail_job(job, kind, failure)
    except Exception:  # for example of `on_dead`; the other jobs go on
        logger.exception("The failure of %s is recorded when its lease has expired", job)


@contextmanager
def _session(kind: JobKind) -> Iterator[None]:
    """Wrap the kind's session; its error pauses the kind, so that others are run instead."""
    try:
        with kind.session():
            yield
    except DATABASE_FAILURES:
        raise
    except Exception:
        _pause(kind)
        raise


def _pause(kind: JobKind) -> None:
    _paused_until[kind.name] = time.monotonic() + kind.pause.total_seconds()


def _is_paused(kind: JobKind) -> bool:
    return time.monotonic() < _paused_until.get(kind.name, 0.0)


def _note_service(kind: JobKind, is_tried: bool, failure: JobFailed | None) -> None:
    if failure is not None and failure.service_down:
        _pause(kind)
    elif is_tried and failure is None:
        _paused_until.pop(kind.name, None)
