"""The job that publishes checkpoints."""

from __future__ import annotations

from datetime import timedelta

from myometrics_core.jobs import Job, JobKind, RetryPolicy, every

from .publication import checkpoint_publish

CHECKPOINT_JOB = "myometrics_audit.checkpoint"
"""The kind of the job; its key is empty."""


class PublishCheckpoints(JobKind):
    """Publish new seals every minute; failures are retried."""

    name = CHECKPOINT_JOB
    schedule = every(timedelta(minutes=1))
    retry = RetryPolicy(base=timedelta(seconds=10), cap=timedelta(minutes=10))

    def run(self, job: Job) -> None:
        while checkpoint_publish() is not None:
            pass
