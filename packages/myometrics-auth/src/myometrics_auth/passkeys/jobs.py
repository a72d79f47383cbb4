"""Background job of passkeys: the hourly sweep."""

from __future__ import annotations

from datetime import timedelta

from myometrics_core.jobs import Job, JobKind, every

from .services import challenges_sweep


class SweepChallenges(JobKind):
    """Delete expired challenges."""

    name = "myometrics_auth.sweep_passkey_challenges"
    lease = timedelta(minutes=15)
    schedule = every(timedelta(hours=1))

    def run(self, job: Job) -> None:
        challenges_sweep()
