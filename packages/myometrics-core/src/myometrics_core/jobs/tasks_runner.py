"""The runner for ``django.tasks`` (Django 6): the site's default backend runs the jobs.

Recurring jobs and retries need ``manage.py jobs_run`` beside it, as a loop or ``--once`` by cron.
"""

from __future__ import annotations

from django.tasks import task

from .running import run_job, run_jobs


@task
def run(kind: str, key: str | None = None) -> int:
    """Run one job by its key, or all due jobs of the kind."""
    return run_jobs(kind) if key is None else int(run_job(kind, key))


def start(kind: str, key: str | None) -> None:
    """Enqueue the task."""
    run.enqueue(kind, key)
