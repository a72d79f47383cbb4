"""The durable job queue: work that is written with the fact it belongs to, and retried."""

from __future__ import annotations

from .kinds import (
    JobFailed,
    JobKind,
    RetryPolicy,
    daily,
    every,
    register_job_kind,
)
from .models import Job
from .queue import cancel_jobs, enqueue, enqueue_many
from .running import run_all_jobs, run_job, run_jobs

__all__ = [
    "Job",
    "JobFailed",
    "JobKind",
    "RetryPolicy",
    "cancel_jobs",
    "daily",
    "enqueue",
    "enqueue_many",
    "every",
    "register_job_kind",
    "run_all_jobs",
    "run_job",
    "run_jobs",
]
