"""The Celery application ``config``: ``celery -A config worker``, ``celery -A config beat``."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

from .tracing import start_tracing, stop_tracing

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("config")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
def _trace(**kwargs: Any) -> None:
    start_tracing()


@worker_process_shutdown.connect
def _send_last_spans(**kwargs: Any) -> None:
    stop_tracing()
