"""Enqueue and cancel jobs, in the transaction of the fact that they belong to."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

from django.db import router, transaction
from django.db.models import Case, F, Q, When
from django.db.models.functions import Least

from ..db.transactions import SerializationFailure, atomic_write
from ..http.request_id import current_request_id
from ..times import utc_now
from .kinds import job_kind
from .models import Job
from .runners import start_job, start_jobs

BATCH = 500
MAX_STARTED_SINGLY = 20
MAX_INSERTS = 5


def enqueue(
    kind: str,
    payload: Mapping[str, Any] | None = None,
    *,
    key: str | None = None,
    run_at: datetime | None = None,
) -> None:
    """Write a job in the caller's transaction; it runs after the commit, at ``run_at`` or later.

    While a job of the same kind and ``key`` is pending, no second one is written: the pending one
    keeps its payload, and runs once more if a worker has already begun it. Without ``key`` each
    call writes a job. Raises ``LookupError`` if the kind is not registered.
    """
    job = (uuid.uuid4().hex if key is None else key, payload or {})
    enqueue_many(kind, [job], run_at=run_at, is_new=key is None)


def enqueue_many(
    kind: str,
    jobs: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    run_at: datetime | None = None,
    is_new: bool = False,
) -> None:
    """Write one job per ``(key, payload)``, a few statements per 500; see :func:`enqueue`.

    ``is_new``: no such job can be pending, for example because the keys are those of rows that this
    transaction has inserted. This saves a statement.
    """
    job_kind(kind)  # an unknown kind would never run
    using = router.db_for_write(Job)
    remaining = iter(jobs)
    keys: list[str] = []  # those to start singly, and one more
    with atomic_write(using, savepoint=False):
        while batch := dict(islice(remaining, BATCH)):
            _write(kind, batch, run_at or utc_now(), is_new)
            keys += islice(batch, MAX_STARTED_SINGLY + 1 - len(keys))
    if run_at is None or run_at <= utc_now():
        transaction.on_commit(partial(_start, kind, keys), using=using)


def cancel_jobs(kind: str, keys: Sequence[str]) -> int:
    """Delete pending jobs; a running one can't finish any more. Returns the number of jobs."""
    return Job.objects.pending().filter(kind=kind, key__in=keys).delete()[0]


def _write(
    kind: str, batch: Mapping[str, Mapping[str, Any]], run_at: datetime, is_new: bool
) -> None:
    """Insert the jobs, or mark those that are pending already.

    The update locks them: a worker that claims one after our commit sees what we have written, and
    one that has already claimed it runs again. A job may be finished between the two statements,
    hence the loop.
    """
    request_id = current_request_id() or ""
    rows = [
        Job(kind=kind, key=key, payload=dict(payload), run_at=run_at, request_id=request_id)
        # In the order of the keys, numbers by value: transactions with the same keys would
        # otherwise deadlock, and jobs of rows begin in the order of the rows.
        for key, payload in sorted(batch.items(), key=lambda job: (len(job[0]), job[0]))
    ]
    if is_new:
        Job.objects.bulk_create(rows)
        return
    pending = Job.objects.pending().filter(kind=kind, key__in=list(batch))
    is_waiting = Q(claimed_by=None, attempts=0)  # not while it is in backoff
    for _ in range(MAX_INSERTS):
        Job.objects.bulk_create(rows, ignore_conflicts=True)
        marked = pending.update(
            run_again=True,
            run_at=Case(When(is_waiting, then=Least(F("run_at"), run_at)), default=F("run_at")),
        )
        if marked == len(batch):
            return
    raise SerializationFailure("the jobs were finished as fast as they were enqueued")


def _start(kind: str, keys: Sequence[str]) -> None:
    if len(keys) > MAX_STARTED_SINGLY:
        start_jobs(kind)
        return
    for key in keys:
        start_job(kind, key)
