"""A site's process without Celery: ``python jobs_process.py jobs_run`` with two kinds of jobs."""

import os
import sys
from datetime import timedelta

from myometrics_testing.site_processes import hide_celery, note, wait_for_go

hide_celery()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core_test_settings")

import django  # noqa: E402

django.setup()

from django.core.management import execute_from_command_line  # noqa: E402

from myometrics_core.jobs import JobKind, register_job_kind  # noqa: E402


class Slow(JobKind):
    """Waits in the middle; leaves a line for each begin and end."""

    name = "tests.slow"
    lease = timedelta(hours=1)

    def run(self, job):
        note("begin")
        wait_for_go()
        note("end")


class Quick(JobKind):
    name = "tests.quick"

    def run(self, job):
        note(f"quick {job.key}")


register_job_kind(Slow())
register_job_kind(Quick())
execute_from_command_line(sys.argv)
