"""A management command in an environment without Celery: ``python fault_process.py jobs_run``."""

import sys

for package in ("celery", "kombu", "billiard", "vine", "amqp"):
    sys.modules[package] = None  # as if it were not installed

from django.core.management import execute_from_command_line  # noqa: E402

execute_from_command_line(sys.argv)
