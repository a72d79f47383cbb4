"""A management command in an environment without Celery: ``python fault_process.py jobs_run``."""

import sys

from myometrics_testing.site_processes import hide_celery

hide_celery()

from django.core.management import execute_from_command_line  # noqa: E402

execute_from_command_line(sys.argv)
