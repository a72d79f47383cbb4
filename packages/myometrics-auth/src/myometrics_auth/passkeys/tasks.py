"""Celery task that runs the sweep. Only imported where Celery is installed."""

from __future__ import annotations

from myometrics_core.jobs.celery_runner import celery_task

from .jobs import SweepChallenges

sweep_challenges = celery_task(SweepChallenges.name)
