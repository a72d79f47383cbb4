"""The recurring jobs of analytics; the pull is in ``pull``."""

from __future__ import annotations

from datetime import timedelta

from myometrics_core.jobs import Job, JobKind, RetryPolicy, daily, every, register_job_kind

from .pull.pulling import PullUploads
from .rollups.folding import changes_fold
from .rollups.self_check import rollups_check

__all__ = ["CheckRollups", "FoldChanges", "register_recurring_jobs"]


class FoldChanges(JobKind):
    """Fold pending changes into the rollups."""

    name = "myometrics_analytics.fold"
    schedule = every(timedelta(seconds=10))
    retry = RetryPolicy(base=timedelta(seconds=10), cap=timedelta(minutes=1))

    def run(self, job: Job) -> None:
        changes_fold()


class CheckRollups(JobKind):
    """Compare the rollups with the facts, nightly."""

    name = "myometrics_analytics.check"
    schedule = daily(3, 17)
    lease = timedelta(minutes=30)

    def run(self, job: Job) -> None:
        rollups_check()


def register_recurring_jobs() -> None:
    """Register the kinds."""
    for kind in (PullUploads(), FoldChanges(), CheckRollups()):
        register_job_kind(kind)
