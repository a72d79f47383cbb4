"""The background jobs of audit: sealing, and the publication of anchors."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

from django.db import router

from myometrics_core.jobs import Job, JobKind, RetryPolicy, enqueue, every, register_job_kind

from ..log.models import Seal
from .anchors import anchors_publish
from .seals import ANCHOR_JOB, seal_pending

MAX_SECONDS: Final = 20.0
"""A run ends after so long, between two batches: well within its lease."""


class SealEntries(JobKind):
    """Seal pending entries every ten seconds.

    The lease is short, so that another worker soon takes over from a killed one.
    """

    name = "myometrics_audit.seal"
    schedule = every(timedelta(seconds=10))
    lease = timedelta(minutes=1)
    retry = RetryPolicy(base=timedelta(seconds=10), cap=timedelta(minutes=1))

    def run(self, job: Job) -> None:
        ends = time.monotonic() + MAX_SECONDS
        for _ in seal_pending():
            if time.monotonic() >= ends:
                return


class PublishAnchors(JobKind):
    """Publish seals in order. Retried until it succeeds: a seal is never skipped."""

    name = ANCHOR_JOB
    retry = RetryPolicy(max_attempts=1_000_000, base=timedelta(seconds=10), cap=timedelta(hours=1))

    def run(self, job: Job) -> None:
        ends = time.monotonic() + MAX_SECONDS
        for _ in anchors_publish(using=router.db_for_write(Seal)):
            if time.monotonic() >= ends:
                enqueue(self.name, key="")  # this job, once more
                return


def register_jobs() -> None:
    """Register the kinds."""
    register_job_kind(SealEntries())
    register_job_kind(PublishAnchors())
