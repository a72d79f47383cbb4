"""The Celery application ``config``: ``celery -A config worker``, ``celery -A config beat``."""

import os
from typing import Any

from celery import Celery
from celery.signals import (
    setup_logging,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
)
from django.conf import settings
from django.utils.log import configure_logging

from .optional.redis_acknowledgement import keep_receiving
from .optional.tracing import start_tracing, stop_tracing

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("config")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.Task.Request = "myometrics_core.jobs.celery_requests:TaskRequest"


@setup_logging.connect
def _log_as_the_site_does(**kwargs: Any) -> None:
    """Log in the site's format: otherwise Celery configures its own loggers."""
    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)


@worker_init.connect
def _keep_receiving(**kwargs: Any) -> None:
    keep_receiving()


@worker_process_init.connect
def _trace(**kwargs: Any) -> None:
    start_tracing()


@worker_process_shutdown.connect
def _send_last_spans(**kwargs: Any) -> None:
    stop_tracing()
