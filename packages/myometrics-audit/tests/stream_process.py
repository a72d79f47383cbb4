"""A process of a site with a stream: ``write COUNT [RATE]``, or a command of ``manage.py``."""

from __future__ import annotations

import json
import os
import sys
import time

from django.conf import settings
from django.core.management import execute_from_command_line

from myometrics_testing.settings import package_settings

BATCH = 100
STREAM = json.loads(os.environ["STREAM"])


def write(count, rate):
    """Write entries in batches and seal each; with a rate per second, singly and unsealed."""
    from myometrics_audit import audit
    from myometrics_audit.sealing import seal_pending

    def entry(number):
        return audit.entry(actor=None, action="created", resource=("thing", str(number)))

    if rate:
        started = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
            audit.record_many([entry(number)])
        return
    for first in range(0, count, BATCH):
        audit.record_many(map(entry, range(first, min(first + BATCH, count))))
        list(seal_pending())


if __name__ == "__main__":
    values = package_settings(
        apps=["myometrics_audit", "myometrics_audit.streams"],
        urls="myometrics_audit.urls",
        MYOMETRICS={"JOB_RUNNER": "none"},
        MYOMETRICS_AUDIT={"STREAMS": {"siem": STREAM}},
    )
    settings.configure(**values)
    if sys.argv[1] == "write":
        import django

        django.setup()
        write(int(sys.argv[2]), int(sys.argv[3]) if sys.argv[3:] else 0)
    else:
        execute_from_command_line(sys.argv)
