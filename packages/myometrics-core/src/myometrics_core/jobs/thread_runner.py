"""The default runner: threads of each server process run the jobs.

They begin with the process's first request, so that management commands and the site's own tests
have none. A job that a stopping process leaves behind is taken over when its lease has expired.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from django.conf import settings as django_settings
from django.core import mail
from django.core.signals import request_started

from ..conf.core_settings import core_settings
from .loop import JobLoop

THREADS = 2
INTERVAL = 5.0

_lock = threading.Lock()
_loops: dict[int, JobLoop] = {}
"""By process id: a forked process begins its own."""


def connect() -> None:
    """Begin the threads at the first request."""
    request_started.connect(_begin, dispatch_uid="myometrics_jobs_thread")


def start(kind: str, key: str | None) -> None:
    """Wake this process's threads, if there are any."""
    loop = _loops.get(os.getpid())
    if loop is not None:
        loop.wake()


def _begin(**kwargs: Any) -> None:
    if os.getpid() in _loops or core_settings.JOB_RUNNER != "thread" or _is_test():
        return
    if not django_settings.USE_TZ:  # jobs store times; packages that have some say so in a check
        return
    with _lock:
        if os.getpid() not in _loops:
            loop = _loops[os.getpid()] = JobLoop(threads=THREADS, interval=INTERVAL)
            threading.Thread(target=loop.run, name="myometrics-jobs", daemon=True).start()


def _is_test() -> bool:
    """Return whether this process runs a site's tests: a thread would use their database.

    Tests may send requests while pytest collects them, before Django's test environment is set up.
    """
    return hasattr(mail, "outbox") or "_pytest" in sys.modules
