"""The recurring jobs of the rollups; the pull is in ``pull``."""

from __future__ import annotations

from datetime import timedelta

from myometrics_core.jobs import Job, JobKind, RetryPolicy, daily, every

from .rollups.folding import changes_fold
from .rollups.self_check import rollups_check


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
