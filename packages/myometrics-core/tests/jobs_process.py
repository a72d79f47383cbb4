"""A site's process without Celery: ``python jobs_process.py jobs_run`` with two kinds of jobs."""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

sys.modules["celery"] = None  # as if it were not installed

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core_test_settings")

import django  # noqa: E402

django.setup()

from django.core.management import execute_from_command_line  # noqa: E402

from myometrics_core.jobs import JobKind, register_job_kind  # noqa: E402

FOLDER = Path(os.environ["JOBS_FOLDER"])


class Slow(JobKind):
    """Runs until the file ``go`` exists; leaves a line for each begin and end."""

    name = "tests.slow"
    lease = timedelta(hours=1)

    def run(self, job):
        note("begin")
        while not (FOLDER / "go").exists():
            time.sleep(0.02)
        note("end")


class Quick(JobKind):
    name = "tests.quick"

    def run(self, job):
        note(f"quick {job.key}")


def note(line):
    with (FOLDER / "notes").open("a") as notes:
        notes.write(line + "\n")


register_job_kind(Slow())
register_job_kind(Quick())
execute_from_command_line(sys.argv)
